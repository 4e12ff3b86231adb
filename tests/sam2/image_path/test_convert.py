from __future__ import annotations

import collections
import copy
import dataclasses
import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.sam2.image_path import convert
from harness.sam2.image_path.convert import ConvertedDecoder, DecoderPlan, EncoderPlan, convert_decoder
from harness.sam2.image_path.pipeline import Models
from harness.sam2.shared import card
from harness.sam2.shared.contract import CARD, INPUT_NAMES, OUTPUT_NAMES, DecoderVariant
from harness.sam2.shared.modules import tflite
from harness.sam2.shared.modules.attention import HeadAttention
from harness.sam2.shared.modules.decoder import build_decoder, sample_inputs, to_tflite
from harness.sam2.shared.modules.sums import FEW_ROWS, CompensatedLinear
from harness.sam2.shared.prompt import PromptConstants
from harness.sam2.shared.source import Source, resolve
from tests.sam2.image_path.ops_of import baked, largest_rank, op_counts, product_ranks, read_ops

if TYPE_CHECKING:
    from transformers import Sam2Model

# The first test waits until the models are converted.
pytestmark = pytest.mark.timeout(900)

SMALLEST_NORMAL = 2.0**-14
"""Of float16's normal numbers."""


def on_the_cpu(model: Path | bytes, arrays: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    content = model if isinstance(model, bytes) else model.read_bytes()
    interpreter = Interpreter(model_content=content, num_threads=2)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], arrays[detail["name"]])
    interpreter.invoke()
    return {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()}


def eager(model: Sam2Model, layernorm: Literal["safe", "plain"], *, halved: bool) -> dict[str, Any]:
    """The rewritten decoder's inputs and outputs in torch, with its weights rounded to fp16 if wanted."""
    decoder = copy.deepcopy(build_decoder(model, DecoderVariant(layernorm)))
    if halved:
        for attention in (module for module in decoder.modules() if isinstance(module, HeadAttention)):
            # The converter folds the scaling into the projection, so that is what gets rounded.
            attention.q_proj.weight.data *= attention.scaling
            attention.q_proj.bias.data *= attention.scaling
            attention.scaling = 1.0
        for tensor in (*decoder.parameters(), *decoder.buffers()):
            tensor.data.copy_(tensor.data.half().float())
    inputs = sample_inputs(model, seed=11)
    named = dict(zip(INPUT_NAMES, inputs, strict=True)) | dict(zip(OUTPUT_NAMES, decoder(*inputs), strict=True))
    return {name: tensor.numpy() for name, tensor in named.items()}


def test_a_first_conversion_makes_the_model_its_card_and_the_prompt_constants(
    converted: ConvertedDecoder, small_folder: Path, told: list[str]
) -> None:
    assert not converted.cached
    assert not converted.is_random
    assert converted.provenance == f"folder {small_folder}"
    assert PromptConstants.load(converted.prompt_constants).image_size == 128
    assert told == ["loading the weights", "converting the decoder"]
    names = {path.suffix for path in converted.path.parent.iterdir()}
    assert names == {".tflite", ".json", ".npz"}, "no temporary file is left behind"
    card = json.loads(converted.path.with_suffix(".json").read_text())
    assert card["provenance"] == converted.provenance
    assert card["inputs"] == ["image_embeddings", "sparse_prompt", "feat_s1", "feat_s0"]
    assert card["bytes"] == converted.path.stat().st_size


def test_inputs_and_outputs_carry_the_published_names_in_order(converted: ConvertedDecoder) -> None:
    interpreter = Interpreter(str(converted.path))
    assert [entry["name"] for entry in interpreter.get_input_details()] == list(INPUT_NAMES)
    assert [entry["name"] for entry in interpreter.get_output_details()] == list(OUTPUT_NAMES)
    (signature,) = tflite.read(converted.path.read_bytes()).signatureDefs
    assert [entry.name.decode() for entry in signature.inputs] == list(INPUT_NAMES)
    assert [entry.name.decode() for entry in signature.outputs] == list(OUTPUT_NAMES)
    shapes = [entry["shape"].tolist() for entry in interpreter.get_input_details()]
    assert shapes == [[1, 64, 8, 8], [1, 2, 64], [1, 16, 16, 16], [1, 8, 32, 32]]


def test_the_graph_has_the_published_operations_and_rank(converted: ConvertedDecoder) -> None:
    counts = op_counts(converted.path)
    wanted = {"BATCH_MATMUL": 15, "SOFTMAX": 7, "GELU": 2, "CONV_2D": 2}
    assert {name: counts[name] for name in wanted} == wanted
    assert not counts.keys() & {
        "TRANSPOSE_CONV",
        "BROADCAST_TO",
        "GATHER",
        "GATHER_ND",
        "SELECT_V2",
        "ARG_MAX",
    }
    assert largest_rank(converted.path) == 4


def test_float32_on_the_cpu_is_the_eager_decoder(converted: ConvertedDecoder, small_model: Sam2Model) -> None:
    wanted = eager(small_model, "safe", halved=False)
    got = on_the_cpu(converted.path, wanted)
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=1e-5 * np.abs(wanted[name]).max())


@pytest.fixture(scope="module")
def halved(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ConvertedDecoder:
    """The decoder with the plain LayerNorm and float16 weights."""
    variant, cache = DecoderVariant(layernorm="plain"), tmp_path_factory.mktemp("cache")
    return convert_decoder(cache, source=str(small_folder), variant=variant, weights="float16")


@pytest.mark.slow
def test_float16_on_the_cpu_is_the_eager_decoder_with_rounded_weights(
    halved: ConvertedDecoder, small_model: Sam2Model
) -> None:
    wanted = eager(small_model, "plain", halved=True)
    unrounded = eager(small_model, "plain", halved=False)
    got = on_the_cpu(halved.path, wanted)
    for name in OUTPUT_NAMES:
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=1e-5 * scale)
        assert np.abs(got[name] - unrounded[name]).max() > 3e-5 * scale, "rounding must have an effect"


@pytest.mark.slow
def test_float16_halves_the_file_and_keeps_the_graph(converted: ConvertedDecoder, halved: ConvertedDecoder) -> None:
    weights = sum(
        len(buffer.data) for buffer in tflite.read(converted.path.read_bytes()).buffers if buffer.data is not None
    )
    halves = sum(
        len(buffer.data) for buffer in tflite.read(halved.path.read_bytes()).buffers if buffer.data is not None
    )
    assert halves == pytest.approx(weights / 2, rel=0.01)
    counts = op_counts(halved.path)
    assert counts["DEQUANTIZE"] > 50
    assert counts["BATCH_MATMUL"] == 15
    assert counts["MAXIMUM"] == 0, "the plain LayerNorm has none"
    assert op_counts(converted.path)["MAXIMUM"] == 10


def test_a_second_call_finds_it_without_starting_anything(
    small_folder: Path, converted: ConvertedDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "in_torch", lambda *_: pytest.fail("nothing is to be made"))
    again = convert_decoder(converted.path.parent, source=str(small_folder), progress=pytest.fail)
    assert again == dataclasses.replace(converted, cached=True)


def test_everything_that_matters_is_in_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def model(source: Source, **changes: Any) -> Path:
        return DecoderPlan(tmp_path, source, **changes).model

    source = resolve("random")
    names = [
        model(source),
        model(resolve("random", seed=1)),
        model(source, variant=DecoderVariant(layernorm="plain")),
        model(source, variant=DecoderVariant(attention="rank4")),
        model(source, variant=DecoderVariant(reductions="split")),
        model(source, variant=DecoderVariant(batch="dropped")),
        model(source, variant=DecoderVariant(prompt="image")),
        model(source, weights="float16"),
        model(source, tokens=3),
    ]
    assert model(resolve("random")) == names[0]
    monkeypatch.setattr(card, "versions", lambda: ["torch==9"])
    names.append(model(source))
    monkeypatch.setattr(convert, "_DECODER_CODE", ("shared/modules/decoder.py",))
    names.append(model(source))
    assert len(set(names)) == 11


def test_a_damaged_or_incomplete_cache_does_not_count(
    converted: ConvertedDecoder, small_folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "copy"
    shutil.copytree(converted.path.parent, cache)
    plan = DecoderPlan(cache, resolve(str(small_folder)), CARD, "float32")
    assert plan.is_there()
    for path in (plan.model, plan.card, plan.constants):
        content = path.read_bytes()
        for damaged in (content[:-10], b"", b"{}"):
            path.write_bytes(damaged)
            assert not plan.is_there(), (path.name, damaged)
        path.unlink()
        assert not plan.is_there(), path.name
        path.write_bytes(content)
    assert plan.is_there()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 0}, "A prompt of 0 tokens is not possible"),
        ({"tokens": 65}, "A prompt of 65 tokens is not possible"),
        ({"weights": "int8"}, "cannot be stored as 'int8'"),
        ({"source": "./nowhere"}, "does not exist"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        convert_decoder(tmp_path, **{"source": "random", **options})


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "litert" in name else object())
    with pytest.raises(UsageError, match=r"needs litert-torch, which .*--models published.*make demo.*CPU build"):
        convert_decoder(tmp_path, source="random")
    monkeypatch.setattr(card, "in_a_clone", lambda: False)
    with pytest.raises(UsageError, match=r"pip install .*\[sam2\].*6\.9 GB.*uv pip install torch --torch-backend cpu"):
        convert_decoder(tmp_path, source="random")


def test_packages_that_are_not_installed_have_a_version_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "_PACKAGES", ("no-such-package-anywhere",))
    assert card.versions() == ["no-such-package-anywhere absent"]


def test_names_of_cached_files_tell_what_they_are(converted: ConvertedDecoder) -> None:
    assert re.fullmatch(r"sam2-decoder-safe-rank3-whole-float32-[0-9a-f]{16}-[0-9a-f]{8}\.tflite", converted.path.name)
    assert re.fullmatch(r"sam2-prompt-[0-9a-f]{16}\.npz", converted.prompt_constants.name)


def test_the_cards_decoder_keeps_the_batch_dimension_of_its_constants(converted: ConvertedDecoder) -> None:
    assert baked(read_ops(converted.path.read_bytes())) == [[1, 64, 64]] * 3


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("", marks=pytest.mark.slow),
        pytest.param("-plain-rank4", marks=pytest.mark.slow),
        pytest.param("-split", marks=pytest.mark.slow),
        pytest.param("-rank4-compensated", marks=pytest.mark.slow),
    ],
)
def test_without_the_batch_dimension_constants_have_rank_two_and_the_values_are_the_same(
    small_model: Sam2Model, words: str
) -> None:
    variant = DecoderVariant.named(f"dropped{words}")
    content = to_tflite(small_model, variant, "float32")
    ops = read_ops(content)
    assert baked(ops) == [[64, 64]] * 4
    if variant.reductions == "whole":
        assert product_ranks(ops) == {2, 3}, "the mask head's alone is of rank 2"
    wanted = eager(small_model, "safe", halved=False)
    got = on_the_cpu(content, wanted)
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=1e-5 * np.abs(wanted[name]).max())


def test_the_first_published_decoder_is_converted_with_its_own_ops_and_the_same_values(
    small_model: Sam2Model, small_models: tuple[Models, Models]
) -> None:
    content = small_models[0].decoder(2).model.read_bytes()
    ops = read_ops(content)
    assert baked(ops) == [[1, 64, 8, 8]] + [[64, 64]] * 3
    assert product_ranks(ops) == {2, 3}, "the mask head's alone is of rank 2"
    counts = collections.Counter(op for op, _, _ in ops)
    wanted_ops = {
        "RESIZE_NEAREST_NEIGHBOR": 2,
        "CONV_2D": 2,
        "SOFTMAX": 7,
        "GELU": 2,
        "MAXIMUM": 0,
        "TRANSPOSE_CONV": 0,
    }
    assert {name: counts[name] for name in wanted_ops} == wanted_ops
    masks = [const for op, _, const in ops if op == "MUL" and const and const[0] in ([1, 16, 16, 1], [1, 32, 32, 1])]
    assert len(masks) == 2
    wanted = eager(small_model, "safe", halved=False)
    got = on_the_cpu(content, wanted)
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=1e-5 * np.abs(wanted[name]).max())


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["rank3", "rank4"])
@pytest.mark.parametrize("reductions", ["split", "compensated"])
def test_a_decoder_with_sums_in_pieces_stays_at_rank_four_and_computes_the_same(
    small_folder: Path,
    small_model: Sam2Model,
    tmp_path: Path,
    attention: Literal["rank3", "rank4"],
    reductions: Literal["split", "compensated"],
) -> None:
    variant = DecoderVariant(attention=attention, reductions=reductions)
    converted = convert_decoder(tmp_path, source=str(small_folder), variant=variant)
    assert largest_rank(converted.path) == 4
    assert op_counts(converted.path)["BATCH_MATMUL"] >= 15
    wanted = eager(small_model, "safe", halved=False)
    got = on_the_cpu(converted.path, wanted)
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=1e-5 * np.abs(wanted[name]).max())


@pytest.mark.slow
@pytest.mark.parametrize(("layernorm", "operations"), [("safe", 354), ("plain", 284)])
def test_the_published_decoder_converts_as_published(
    full_decoder_model: Sam2Model, tmp_path: Path, layernorm: Literal["safe", "plain"], operations: int
) -> None:
    full_decoder_model.save_pretrained(tmp_path / "full")
    converted = convert_decoder(tmp_path, source=str(tmp_path / "full"), variant=DecoderVariant(layernorm))
    counts = op_counts(converted.path)
    wanted = {"BATCH_MATMUL": 15, "SOFTMAX": 7, "GELU": 2, "CONV_2D": 2}
    assert {name: counts[name] for name in wanted} == wanted
    assert counts.total() == operations
    assert largest_rank(converted.path) == 4
    reference = eager(full_decoder_model, layernorm, halved=False)
    got = on_the_cpu(converted.path, reference)
    masks = torch.from_numpy(got["pred_masks"]).flatten()
    assert masks.shape == (3 * 256 * 256,)
    cosine = torch.cosine_similarity(masks, torch.from_numpy(reference["pred_masks"]).flatten(), dim=0)
    assert float(cosine) > 0.999999
    for name in OUTPUT_NAMES:
        scale = np.abs(reference[name]).max()
        np.testing.assert_allclose(got[name], reference[name], rtol=0, atol=1e-5 * scale)


def test_the_encoder_has_no_compensated_sums(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The encoder has no 'compensated' way to sum\. Choose 'whole' or 'split'\."):
        EncoderPlan(tmp_path, resolve("random"), reductions="compensated")  # type: ignore[arg-type]


def with_low_halves(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Values of 2^-6 to 2^-4 of which float16 lacks 2^-19 to 2^-18: a subnormal number, but not when times 2^11."""
    high = np.ldexp(rng.integers(1024, 2048, shape), rng.integers(-16, -14, shape))
    low = rng.choice([-1.0, 1.0], shape) * rng.uniform(2.0**-19, 2.0**-18, shape)
    return (high + low).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 8, 4096])
def test_the_low_halves_of_a_converted_linear_layer_stay_out_of_float16s_subnormal_numbers(rows: int) -> None:
    import litert_torch

    source = torch.nn.Linear(256, 128)
    rng = np.random.default_rng(0)
    for parameter in source.parameters():
        parameter.data.copy_(torch.from_numpy(with_low_halves(rng, tuple(parameter.shape))))
    layer = CompensatedLinear(source).eval().requires_grad_(False)
    # Four terms in each sum: rounding stays far below what is looked for.
    x = torch.zeros((1, rows, 256))
    x[0, :, rng.choice(256, 4, replace=False)] = torch.tensor([1.0, -1.0, 1.0, -1.0])
    tree = tflite.read(litert_torch.convert(layer, (x,)).model_content())
    for tensor in tree.subgraphs[0].tensors:
        data = tree.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.FLOAT32 and data is not None and len(data) > 256:
            values = np.abs(np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.float32))
            assert not ((values > 0) & (values < SMALLEST_NORMAL)).any()
    tflite.halve_weights(tree)
    interpreter = Interpreter(model_content=tflite.write(tree))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x.numpy())
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    with torch.no_grad():
        exact = source.double()
        wanted = exact(x.double()).numpy()
        sizes = (x.double().abs() @ exact.weight.abs().T).numpy()
        bias = exact.bias.abs().numpy()
    # Two float16 numbers hold a constant to 2^-22 of itself, one alone to 2^-11: on many rows the bias is one. What the
    # sum lacks has eleven terms that are not zero, eight products, two of the bias and the sum: ten float32 additions,
    # each off by 2^-24 of twice the terms' size at most, and two more roundings at the end.
    held = 2.0**-22 * (sizes + bias) if rows <= FEW_ROWS else 2.0**-22 * sizes + 2.0**-11 * bias
    assert (np.abs(got - wanted) <= held + 22 * 2.0**-24 * (sizes + bias)).all()
