"""Graphs and constants as somebody else published them: taken as the model card has them, or refused in a sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from typer.testing import CliRunner

from harness.cli.app import app
from harness.core.errors import HarnessError, UsageError
from harness.sam2.shared.clicks import Tap
from harness.sam2.video import published
from harness.sam2.video.contract import GRAPHS
from harness.sam2.video.onnx_stages import OnnxStages
from harness.sam2.video.scenario import motion_clip, motion_frame
from harness.sam2.video.tracker import Tracker

# The first test waits until the graphs are exported.
pytestmark = pytest.mark.timeout(900)


def as_published(exported: Path, folder: Path) -> dict[str, Any]:
    """The exported graphs in `folder` as a publisher leaves them: no mark, sizes of outputs open. Gives its
    constants.json."""
    (folder / "onnx").mkdir(parents=True)
    for graph in GRAPHS:
        model = onnx.load(str(exported / "onnx" / f"{graph}.onnx"))
        for output in model.graph.output:
            for size in output.type.tensor_type.shape.dim:
                size.Clear()
        onnx.save(model, str(folder / "onnx" / f"{graph}.onnx"))
    told = json.loads((exported / "constants.json").read_text())
    constants = {
        "maskmem_tpos_enc": told["memory_temporal_positional_encoding"],
        "preprocessing": {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        "num_maskmem": 7,
    }
    (folder / "constants.json").write_text(json.dumps(constants))
    return constants


@pytest.fixture(scope="module")
def folder(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("published") / "graphs"
    as_published(exported, made)
    return made


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def test_published_graphs_track_as_ours_do_with_duplicates_for_padding(exported: Path, folder: Path) -> None:
    clip = list(motion_clip(4))

    def scores(graphs: Path, padding: Any = None) -> list[Any]:
        tracker = Tracker(OnnxStages(graphs), total=len(clip), padding=padding)
        seen = [tracker.seed(clip[0], {1: Tap.at(140, 90)}), *(tracker.step(frame) for frame in clip[1:])]
        return [one.objects[1].low_res_mask for one in seen]

    found = scores(folder)
    np.testing.assert_array_equal(found, scores(exported, "duplicate"))
    assert not np.array_equal(found, scores(exported))
    with pytest.raises(UsageError, match="padding mark would be attended"):
        Tracker(OnnxStages(folder), padding="marked")


def test_the_command_takes_a_published_folder_and_asks_for_no_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("weights were asked for")

    monkeypatch.setattr("harness.cli.sam2_video.resolve", never)
    (tmp_path / "clip").mkdir()
    for number, frame in enumerate(motion_clip(2)):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{number}.png")
    words = ["sam2", "track", str(tmp_path / "clip"), "--at", "140,90", "--models", str(folder), "--json"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["weights"] == f"the graphs in {str(folder)!r}"
    assert [row["frame"] for row in told["frames"]] == [0, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told.pop("maskmem_tpos_enc"), r"has no table of 7 x 64 numbers; its keys are 'preprocessing\.im"),
        (lambda told: told.update(other=told["maskmem_tpos_enc"]), r"more than one table of 7 x 64 numbers \('maskmem"),
        (lambda told: told["preprocessing"].pop("image_std"), "has no std of three numbers"),
        (lambda told: told["preprocessing"].update(image_mean=[0.5, 0.5, 0.5]), r"the mean \[0\.5, 0\.5, 0\.5\], in"),
        (lambda told: told["maskmem_tpos_enc"][3].__setitem__(0, float("nan")), "has no table"),
        (lambda told: told["maskmem_tpos_enc"][3].append(1.0), "has no table"),
    ],
)
def test_constants_that_could_mean_two_things_or_lack_one_are_refused_with_their_keys(
    copied: Path, change: Callable[[Any], Any], said: str
) -> None:
    told = json.loads((copied / "constants.json").read_text())
    change(told)
    (copied / "constants.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match=said):
        OnnxStages(copied)


@pytest.mark.parametrize("form", [lambda table: table.reshape(7, 1, 1, 64), np.ravel])
def test_the_temporal_table_may_be_flat_or_as_the_checkpoint_has_it(
    exported: Path, copied: Path, form: Callable[[Any], Any]
) -> None:
    told = json.loads((copied / "constants.json").read_text())
    told["maskmem_tpos_enc"] = form(np.array(told["maskmem_tpos_enc"])).tolist()
    (copied / "constants.json").write_text(json.dumps(told))
    np.testing.assert_array_equal(OnnxStages(copied).constants.temporal, OnnxStages(exported).constants.temporal)


def change_graph(folder: Path, graph: str, change: Callable[[Any], None]) -> None:
    path = folder / "onnx" / f"{graph}.onnx"
    model = onnx.load(str(path))
    change(model.graph)
    onnx.save(model, str(path))


def renamed(graph: Any) -> None:
    graph.node.append(helper.make_node("Identity", ["iou"], ["iou_scores"]))
    graph.output[2].name = "iou_scores"


def of_one_point(graph: Any) -> None:
    for port in graph.input:
        if port.name in ("input_points", "input_labels"):
            port.type.tensor_type.shape.dim[2].dim_value = 1


def one_more(graph: Any) -> None:
    graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))


@pytest.mark.parametrize(
    ("graph", "change", "said"),
    [
        ("mask_decoder", renamed, r"mask_decoder\.onnx' lacks the output 'iou'; it has 'low_res_mask'"),
        (
            "mask_decoder",
            of_one_point,
            r"input 'input_points' is float32 \[1, 1, 1, 2\], on the model card float32 \[1",
        ),
        ("memory_encoder", one_more, r"has an input 'extra' that the model card lacks"),
    ],
)
def test_a_graph_that_differs_from_the_card_is_refused_by_what_differs(
    copied: Path, graph: str, change: Callable[[Any], None], said: str
) -> None:
    change_graph(copied, graph, change)
    with pytest.raises(UsageError, match=said):
        OnnxStages(copied)


def put_behind(graph: Any, output: str, op: str, constant: Any) -> None:
    """Have `op` of the output and a constant take its place."""
    for node in graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
        node.input[:] = ["before" if name == output else name for name in node.input]
    graph.initializer.append(constant)
    graph.node.append(helper.make_node(op, ["before", constant.name], [output]))


def test_masks_that_are_not_numbers_end_with_1_and_are_counted(copied: Path, tmp_path: Path) -> None:
    Image.fromarray(motion_frame(0)).save(tmp_path / "0.png")
    nan = helper.make_tensor("nan", TensorProto.FLOAT, [], [float("nan")])
    change_graph(copied, "mask_decoder", lambda graph: put_behind(graph, "object_score_logits", "Add", nan))
    asked = ["sam2", "track", str(tmp_path), "--at", "40,40", "--models", str(copied), "--out", str(tmp_path / "out")]
    ended = CliRunner().invoke(app, asked)
    assert (ended.exit_code, "1 scores and mask logits are NaN or infinite" in ended.output) == (1, True)
    (row,) = json.loads((tmp_path / "out" / "track.json").read_text())["frames"]
    assert (row["objects"]["1"]["object_score"], row["objects"]["1"]["nonfinite"]) == ("nan", 1)


def test_a_run_that_the_runtime_refuses_is_told_with_its_reason(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"ONNX Runtime does not run pointer_tpos \(.*rank.*\)"):
        OnnxStages(folder).pointer_positions(np.zeros((2, 2), np.float32))


@pytest.mark.parametrize("value", [float("nan"), 1e300])
def test_a_temporal_table_that_float32_does_not_hold_is_refused(exported: Path, copied: Path, value: float) -> None:
    told = json.loads((exported / "constants.json").read_text())
    told["memory_temporal_positional_encoding"][0][0] = value
    (copied / "constants.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match="1 values of the temporal table are not finite float32"):
        OnnxStages(copied)


def test_a_temporal_table_of_other_rows_and_another_schema_are_refused(exported: Path, copied: Path) -> None:
    told = json.loads((exported / "constants.json").read_text())
    name = "memory_temporal_positional_encoding"
    for rows in (told[name][:1], told[name] * 3):
        (copied / "constants.json").write_text(json.dumps(told | {name: rows}))
        with pytest.raises(UsageError, match=rf"the temporal table has shape \[{len(rows)}, "):
            OnnxStages(copied)
    (copied / "constants.json").write_text(json.dumps(told | {"schema": 2}))
    with pytest.raises(UsageError, match="its schema is 2, and this release reads 1"):
        OnnxStages(copied)


def test_pixels_of_another_mean_are_refused_in_our_own_form_too(exported: Path, copied: Path) -> None:
    told = json.loads((exported / "constants.json").read_text())
    told["normalization"]["mean"] = [0.5, 0.5]
    (copied / "constants.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match=r"which are not SAM 2\.1's"):
        OnnxStages(copied)


def test_an_output_of_another_shape_than_it_left_open_is_refused(copied: Path) -> None:
    def narrowed(graph: Any) -> None:
        kept = helper.make_tensor("kept", TensorProto.BOOL, [2], [True, True])
        graph.initializer.append(kept)
        graph.node[-1].output[0] = "whole"
        graph.node.append(helper.make_node("Compress", ["whole", "kept"], ["pointer_pos"], axis=1))
        graph.output[0].type.tensor_type.shape.dim[1].Clear()

    change_graph(copied, "pointer_tpos", narrowed)
    stages = OnnxStages(copied)
    with pytest.raises(UsageError, match=r"pointer_tpos gave 'pointer_pos' as \[3, 2\], not \['P', 64\]"):
        stages.pointer_positions(np.zeros(3, np.float32))


def test_weights_in_another_file_are_not_opened(copied: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 20))
    path = copied / "onnx" / "pointer_tpos.onnx"
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(UsageError, match=r"pointer_tpos\.onnx' keeps weights in another file"):
        OnnxStages(copied)
    # In a subgraph's constant as well.
    inner = helper.make_tensor("hidden", TensorProto.FLOAT, [1], [1.0])
    inner.data_location = TensorProto.EXTERNAL
    inner.external_data.add(key="location", value="../secret")
    body = helper.make_graph([helper.make_node("Constant", [], ["c"], value=inner)], "body", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    path.write_bytes(helper.make_model(helper.make_graph([node], "g", [], [])).SerializeToString())
    with pytest.raises(UsageError, match="keeps weights in another file"):
        published.check_file(path)


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[:7], lambda whole: whole[:1000], lambda _: bytes(1000), lambda _: b"\x08\x01" * 10**6],
)
def test_a_cut_graph_and_no_graph_are_refused(copied: Path, damage: Callable[[bytes], bytes]) -> None:
    path = copied / "onnx" / "mask_decoder.onnx"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=r"mask_decoder\.onnx' is not a graph that ONNX Runtime takes"):
        OnnxStages(copied)


def test_files_are_bounded_and_a_pipe_is_not_waited_for(copied: Path) -> None:
    path = copied / "onnx" / "mask_decoder.onnx"
    os.truncate(path, published.LARGEST_GRAPH + 1)
    with pytest.raises(UsageError, match=r"has 1,073,741,825 bytes, more than 1,073,741,824"):
        OnnxStages(copied)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match=r"There is no .*mask_decoder\.onnx"):
        OnnxStages(copied)


@pytest.fixture
def clip(tmp_path: Path) -> str:
    (tmp_path / "clip").mkdir()
    for number, frame in enumerate(motion_clip(2)):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{number}.png")
    return str(tmp_path / "clip")


def refused(*words: str) -> str:
    """What a command says that ends as misuse does."""
    done = CliRunner().invoke(app, ["sam2", *words])
    assert isinstance(done.exception, UsageError)
    return str(done.exception)


@pytest.mark.parametrize("command", ["track", "drift"])
def test_the_published_graphs_are_refused_before_anything_is_fetched_or_made(
    command: str, clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    out = ("--out", str(tmp_path / "out"))
    if command == "track":
        said = refused("track", clip, "--at", "140,90", "--models", "published", *out)
        assert "vision_encoder.onnx of square-zero-labs/sam2.1-tiny-video-onnx cannot be fetched: its SHA-256" in said
    else:
        assert "the published ones are ONNX, which it does not run" in refused("drift", "--models", "published", *out)
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()


def test_graphs_of_other_weights_are_refused_for_drift_before_anything_is_converted(
    folder: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    for graphs, whose in ((folder, f"the graphs in {str(folder)!r}"), (exported, "random weights, seed 7 (small)")):
        words = ("drift", "--weights", "random", "--models", str(graphs), "--out", str(tmp_path / "out"))
        assert f"The exported graphs are of {whose}, the converted ones of random weights, seed 0" in refused(*words)
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("words", [("--weights", "random"), ("--seed", "3"), ("--side", "256")])
def test_graphs_in_files_are_of_no_other_weights_or_size(exported: Path, clip: str, words: tuple[str, str]) -> None:
    told = refused("track", clip, "--at", "140,90", "--models", str(exported), *words)
    assert f"{words[0]} does not go with --models {exported}" in told


def test_a_device_that_is_none_is_told_before_anything_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    done = CliRunner().invoke(app, ["sam2", "drift", "--device", "host@nothing", "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, HarnessError)
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache" / "sam2").exists()
