"""`harness sam2 serve` as a process: its address, its refusals, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from harness.cli.sam2 import app
from harness.cli.tap import serve as command
from harness.core.errors import UsageError
from harness.sam2.image_path.tap_page import serving
from harness.sam2.shared.image import sample_photo
from tests.cli.conftest import environment
from tests.documents import check_printed

WORDS = [sys.executable, "-m", "harness", "sam2", "serve"]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    path = tmp_path_factory.mktemp("photos") / "portrait.png"
    Image.fromarray(sample_photo()).save(path)
    return path


@contextmanager
def started(*words: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and what it says once it serves."""
    process = subprocess.Popen(
        [*WORDS, *words, "--no-open"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        while said.startswith("{") and not said.endswith("}\n"):
            said += process.stdout.readline()
        yield process, said
    finally:
        process.kill()
        process.communicate()


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_no_process_left(photo: Path, published_folder: Path, number: int) -> None:
    with started(str(photo), "--models", str(published_folder), "--json", folder=photo.parent) as (process, said):
        document = json.loads(said)
        check_printed("serve", document)
        address = document["address"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", address)
        with urllib.request.urlopen(address + "state", timeout=30) as reply:
            state = json.load(reply)
        assert [one["label"] for one in state["decoders"]] == [
            "sam2_tiny_mask_decoder_fp16",
            "sam2_tiny_mask_decoder_v2_fp16",
        ]
        assert state["decoders"][0]["why_not"].keys() == {"more", "negative", "box"}
        place = {"photo": "portrait.png", "decoder": state["decoder"], "back_end": "host/cpu"}
        request = urllib.request.Request(
            address + "open", json.dumps(place).encode(), {"Origin": address.rpartition("/")[0].rpartition("/")[0]}
        )
        urllib.request.urlopen(request, timeout=30).close()
        deadline = time.monotonic() + 60
        while not (children := below(process)):  # the encoder's worker, in the middle of its work
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, number)
        assert process.wait(60) == 128 + number
        gone, alive = psutil.wait_procs(children, 20)
        assert (len(gone), alive) == (len(children), [])


@pytest.mark.parametrize("is_random", [True, False])
def test_random_weights_are_told_beside_the_address(
    is_random: bool, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def served(app: Any, close: Any, port: int, ready: Callable[[str], None], stopping: Any) -> int:
        ready("http://127.0.0.1:1/token/")
        return 0

    page = command._Page(lambda *_: None, lambda: None, is_random)  # type: ignore[arg-type]
    monkeypatch.setattr(serving, "serve", served)
    monkeypatch.setattr(command, "_photo_page", lambda *_: page)
    said = CliRunner().invoke(app, ["serve", str(photo), "--no-open"], catch_exceptions=False).output
    assert said.startswith("http://127.0.0.1:1/token/\n")
    assert ("Random weights: the masks mean nothing" in said) is is_random


def test_the_port_is_the_one_asked_for_and_a_taken_one_is_a_sentence(photo: Path, published_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = [*WORDS, str(photo), "--models", str(published_folder), "--port", port, "--no-open"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment(), cwd=photo.parent)
    assert done.returncode == 2
    assert f"Port {port} cannot be had" in done.stderr and "Traceback" not in done.stderr


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, photo: Path) -> None:
    monkeypatch.setattr(command, "PACKAGES", ("starlette", "no_such_package"))
    with pytest.raises(UsageError, match=r"needs no_such_package, .*pip install .*\[serve\]"):
        CliRunner().invoke(app, ["serve", str(photo)], catch_exceptions=False)


def test_what_is_no_photo_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("text")
    for name, sentence in (
        ("none", "does not exist"),
        ("empty", "holds no photo"),
        ("text.png", "is not a readable image"),
    ):
        with pytest.raises(UsageError, match=sentence):
            CliRunner().invoke(app, ["serve", str(tmp_path / name)], catch_exceptions=False)


def test_options_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "walk.mp4").write_bytes(b"no film")
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    for words, sentence in (
        (["walk.mp4", "--device", "host"], "taken for a video, .* and --device does not go with one"),
        (["walk.mp4", "--variant", "card"], "--variant does not go with one"),
        (["walk.mp4", "--weights", "random"], "is not a video that can be read"),
        (["a.png", "--side", "256"], "--side goes with a video"),
        ([".", "--clip", "--encoder", "gpu"], "is a clip, and --encoder does not go with one"),
    ):
        with pytest.raises(UsageError, match=sentence):
            CliRunner().invoke(app, ["serve", str(tmp_path / words[0]), *words[1:]], catch_exceptions=False)
