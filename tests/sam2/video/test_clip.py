"""Clips in and out, and the whole of `track` on them."""

from __future__ import annotations

import json
import struct
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from harness.core.errors import StorageError, UsageError
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.image import Photo
from harness.sam2.video.clip import VideoWriter, open_clip
from harness.sam2.video.onnx_stages import OnnxStages
from harness.sam2.video.scenario import motion_clip, motion_frame
from harness.sam2.video.track import SHEET_HEIGHT, SHEET_WIDTH, ContactSheet, checked_clip, track_clip

# The first test of a clip waits until the graphs are exported.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "motion.mp4"
    with VideoWriter(path, Fraction(12)) as writer:
        for frame in motion_clip(6):
            writer.add(frame)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("clip.m3u8", "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"),
        ("clip.mp4", "ffconcat version 1.0\nfile beside.ts\n"),
    ],
)
def test_a_playlist_reaches_no_other_file(name: str, text: str, tmp_path: Path) -> None:
    beside = tmp_path / "beside.ts"
    with VideoWriter(beside, Fraction(10)) as writer:
        for level in (0, 90, 180):
            writer.add(np.full((64, 64, 3), level, np.uint8))
    assert len(list(open_clip(beside).frames())) == 3
    (tmp_path / name).write_text(text.format(beside))
    with pytest.raises(UsageError, match="is not a video that can be read"):
        open_clip(tmp_path / name)


def test_a_video_is_read_back_frame_by_frame(video: Path) -> None:
    clip = open_clip(video)
    frames = list(clip.frames())
    assert (len(frames), clip.count, clip.rate) == (6, 6, Fraction(12))
    for number, frame in enumerate(frames):
        assert frame.shape == (240, 320, 3)
        assert np.abs(frame.astype(int) - motion_frame(number)).mean() < 12  # H.264 loses some


def marked(video: Path, path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The same file with another display matrix, its (a, b, c, d), in the track's header."""
    content = bytearray(video.read_bytes())
    assert content.count(b"tkhd") == 1
    at = content.index(b"tkhd") + 4 + 40  # version 0: after flags, times, number, duration, layer and volume
    one = 1 << 16
    assert struct.unpack_from(">9i", content, at) == (one, 0, 0, 0, one, 0, 0, 0, one << 14)
    a, b, c, d = (one * number for number in matrix)
    struct.pack_into(">6i", content, at, a, b, 0, c, d, 0)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),  # a phone held upright
        ((0, -1, 1, 0), lambda frame: np.rot90(frame, 1)),
        ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
        ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),  # a mirror
        ((0, 1, 1, 0), lambda frame: frame.transpose(1, 0, 2)),
        ((1, 1, -1, 1), lambda frame: frame),  # no quarter turn
    ],
)
def test_a_recording_is_turned_as_its_player_turns_it(
    video: Path, tmp_path: Path, matrix: tuple[int, int, int, int], shown: Callable[[Photo], Photo]
) -> None:
    plain = list(open_clip(video).frames())
    turned = list(open_clip(marked(video, tmp_path / "turned.mp4", matrix)).frames())
    assert len(turned) == len(plain)
    for frame, before in zip(turned, plain, strict=True):
        np.testing.assert_array_equal(frame, shown(before))


def test_frames_keep_their_own_times(tmp_path: Path) -> None:
    """A phone's recording lengthens frames in the dark."""
    times = [Fraction(0), Fraction(1, 30), Fraction(1, 10), Fraction(1, 2), Fraction(8, 15)]
    with VideoWriter(tmp_path / "uneven.mp4", Fraction(30)) as writer:
        for frame, time in zip(motion_clip(5), times, strict=True):
            writer.add(frame, time)
    timed = [time for _, time in open_clip(tmp_path / "uneven.mp4").timed_frames()]
    assert timed == times


def test_frames_of_one_time_are_kept_apart(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "same.mp4", Fraction(30)) as writer:
        for frame in motion_clip(3):
            writer.add(frame, Fraction(0))
    assert len(list(open_clip(tmp_path / "same.mp4").frames())) == 3


def test_a_gif_is_read_frame_by_frame(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(motion_frame(number)) for number in range(3)]
    first.save(tmp_path / "moving.gif", save_all=True, append_images=others, duration=[100, 300, 200])
    timed = [time for _, time in open_clip(tmp_path / "moving.gif").timed_frames()]
    assert timed == [0, Fraction(1, 10), Fraction(2, 5)]


@pytest.mark.parametrize(
    ("start", "backward", "shown"), [(1, False, [0, Fraction(2, 5)]), (2, True, [0, Fraction(2, 5), Fraction(1, 2)])]
)
def test_the_overlay_keeps_the_times_of_the_clip(
    exported: Path, tmp_path: Path, start: int, backward: bool, shown: list[Fraction]
) -> None:
    with VideoWriter(tmp_path / "uneven.mp4", Fraction(30)) as writer:
        for frame, time in zip(motion_clip(3), [Fraction(0), Fraction(1, 10), Fraction(1, 2)], strict=True):
            writer.add(frame, time)
    track_clip(
        tmp_path / "uneven.mp4", {1: Tap.at(170, 85)}, stages=OnnxStages(exported), out=tmp_path / "out",
        start=start, backward=backward,
    )  # fmt: skip
    assert [time for _, time in open_clip(tmp_path / "out" / "overlay.mp4").timed_frames()] == shown


def test_an_animated_webp_is_read_by_an_ffmpeg_that_can_and_else_refused_with_what_to_do(tmp_path: Path) -> None:
    first, second = [Image.fromarray(motion_frame(number)) for number in range(2)]
    first.save(tmp_path / "moving.webp", save_all=True, append_images=[second])
    if "webp_anim" in av.formats_available:
        assert [frame.shape for frame in open_clip(tmp_path / "moving.webp").frames()] == 2 * [(*first.size[::-1], 3)]
        return
    with pytest.raises(UsageError, match="This FFmpeg reads no animated WebP; save its frames as images"):
        list(open_clip(tmp_path / "moving.webp").frames())


def test_a_folder_is_taken_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"frame{number}.png")
    assert [int(frame[0, 0, 0]) for frame in open_clip(tmp_path).frames()] == [1, 9, 10]


def test_a_digit_that_is_no_number_is_sorted_by_its_name(tmp_path: Path) -> None:
    for name in ("²2.png", "²1.png"):
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    assert [path.name for path in open_clip(tmp_path).images or ()] == ["²1.png", "²2.png"]


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoWriter(Path("12:30.mp4"), Fraction(24)) as written:
        written.add(motion_frame(0))
    assert len(list(open_clip(Path("12:30.mp4")).frames())) == 1


def test_a_disk_that_is_full_at_the_end_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    with (
        pytest.raises(StorageError, match=r"full\.mp4' cannot be written \(.*\)"),
        VideoWriter(tmp_path / "full.mp4", Fraction(24)) as written,
    ):
        written.add(motion_frame(0))


def test_a_strip_of_a_frame_does_not_fill_the_memory() -> None:
    sheet = ContactSheet()
    sheet.add(0, np.zeros((2000, 1, 3), np.uint8))
    assert sheet.picture().shape == (SHEET_HEIGHT, SHEET_WIDTH, 3)


def test_an_empty_file_a_text_and_a_missing_path_are_refused(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.touch()
    text.write_text("not a video\n" * 100)
    for path, said in (
        (empty, "is empty"),
        (text, "is not a video that can be read"),
        (tmp_path / "none.mp4", "does not exist"),
        (tmp_path / "folder", "holds no images"),
    ):
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=said):
            open_clip(path)


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    with pytest.raises(UsageError, match=r"has no pictures, only audio"):
        open_clip(path)


def test_a_truncated_video_is_refused(video: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with pytest.raises(UsageError, match=r"not a video that can be read|cannot be decoded"):
        list(open_clip(path).frames())


def test_a_folder_of_mixed_sizes_is_refused_by_the_odd_images_name(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "1.png")
    Image.new("RGB", (9, 6)).save(tmp_path / "2.png")
    with pytest.raises(UsageError, match=r"'2\.png' has 9 x 6 pixels and the first frame 8 x 6"):
        list(open_clip(tmp_path).frames())


@pytest.mark.parametrize("backward", [False, True])
def test_track_leaves_masks_overlay_contact_sheet_and_scores(
    exported: Path, video: Path, tmp_path: Path, backward: bool
) -> None:
    start = 4 if backward else 1
    found = track_clip(
        video,
        {1: Tap.at(160, 90), 2: Tap(box=(70, 110, 140, 170))},
        stages=OnnxStages(exported),
        out=tmp_path,
        start=start,
        later={2: {2: Tap.at(106, 160)}},
        backward=backward,
    )
    numbers = [4, 3, 2, 1, 0] if backward else [1, 2, 3, 4, 5]
    told = json.loads((tmp_path / "track.json").read_text())
    assert [row["frame"] for row in told["frames"]] == numbers == [row["frame"] for row in found.frames]
    first = told["frames"][0]["objects"]["1"]
    assert set(first) == {"iou_score", "object_score", "visible", "area", "nonfinite"} and first["nonfinite"] == 0
    assert sorted(p.name for p in (tmp_path / "masks" / "2").iterdir()) == sorted(f"{n:05d}.png" for n in numbers)
    assert len(list(open_clip(tmp_path / "overlay.mp4").frames())) == 5
    with Image.open(tmp_path / "contact.png") as sheet:
        assert sheet.size == (1280, 480)


def test_a_clip_of_one_frame_is_tracked(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    Image.fromarray(motion_frame(0)).save(tmp_path / "clip" / "0.png")
    found = track_clip(tmp_path / "clip", {1: Tap.at(140, 90)}, stages=OnnxStages(exported), out=tmp_path / "out")
    assert len(found.frames) == 1
    assert len(list(open_clip(tmp_path / "out" / "overlay.mp4").frames())) == 1


def test_a_click_outside_and_a_start_past_the_end_are_refused(exported: Path, video: Path, tmp_path: Path) -> None:
    stages = OnnxStages(exported)
    with pytest.raises(UsageError, match=r"tap \(400, 90\) is outside the photo, which is 320 wide"):
        track_clip(video, {1: Tap.at(400, 90)}, stages=stages, out=tmp_path)
    with pytest.raises(UsageError, match="ends before frame 60"):
        track_clip(video, {1: Tap.at(40, 90)}, stages=stages, out=tmp_path, start=60)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"prompts": {}}, r"There is nothing to track\. Give at least one --at X,Y or --box L,T,R,B\."),
        ({"start": -1}, r"There is no frame -1\. Give --start 0 or more\."),
        ({"start": 3}, r"ends before frame 3\. Give --start 0 to 2\."),
        ({"later": {3: {}}}, r"Frame 3 will not be tracked in '.*'\. Give --click a frame 0 to 2\."),
        ({"start": 1, "later": {0: {}}}, r"Frame 0 will not be tracked in '.*'\. Give --click a frame 1 to 2\."),
        ({"start": 1, "backward": True, "later": {2: {}}}, r"Frame 2 will not .* Give --click a frame 0 to 1\."),
    ],
)
def test_what_a_clip_cannot_give_is_told_before_any_frame_is_read(
    tmp_path: Path, asked: dict[str, Any], sentence: str
) -> None:
    for number in range(3):
        Image.new("RGB", (8, 6)).save(tmp_path / f"{number}.png")
    given = {"prompts": {1: Tap.at(1, 1)}, "start": 0, "later": {}, "backward": False, **asked}
    with pytest.raises(UsageError, match=sentence):
        checked_clip(tmp_path, **given)


def test_a_video_file_only_guesses_its_length_so_a_late_click_is_believed(video: Path) -> None:
    given = {1: Tap.at(1, 1)}
    assert checked_clip(video, given, start=0, later={60: given}, backward=False).images is None
    with pytest.raises(UsageError, match=r"Give --click a frame from 2 on\."):
        checked_clip(video, given, start=2, later={1: given}, backward=False)
