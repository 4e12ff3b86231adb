"""Files that lie: whatever bytes come, the reader gives a model or a UsageError, soon and in little memory."""

from __future__ import annotations

import random
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.errors import UsageError
from harness.graph.model import Model
from harness.graph.ops.audit import audit
from harness.graph.surgery import islands, isolate, tap, tappable
from harness.graph.verify import MalformedError, verify
from harness.numerics.fp16 import oracle
from tests.arrays import i32

SECONDS = 2.0
MEGABYTES = 256


def peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def survives(data: bytes) -> bool:
    """Whether the bytes make a model; everything that is done to one before a device sees it must then work."""
    try:
        model = Model.from_bytes(data)
    except UsageError:
        return False
    graph = model.graph()
    audit(model)
    for signature in model.signatures:
        isolate(model, signature).graph()
    taps = tappable(graph)
    tap(model, taps)[0].to_bytes()
    oracle(model).to_bytes()
    if taps:
        islands(model, [(t, frozenset(taps)) for t in taps]).model.to_bytes()
    return True


def refuse(data: bytes) -> str:
    with pytest.raises(UsageError) as caught:
        Model.from_bytes(data)
    return caught.value.message


def finished(build: Callable[[Any], int]) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(build(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def references(builder: Any, start: Callable[[Any, int], Any], table: int, count: int) -> int:
    """A vector of `count` references to one table."""
    start(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())


def shared_tables(subgraphs: int, tensors: int, name: str = "") -> bytes:
    """`subgraphs` references to one subgraph, which has `tensors` references to one tensor."""

    def build(builder: Any) -> int:
        text = builder.CreateString(name)
        schema.TensorStart(builder)
        schema.TensorAddName(builder, text)
        tensor = schema.TensorEnd(builder)
        vector = references(builder, schema.SubGraphStartTensorsVector, tensor, tensors)
        schema.SubGraphStart(builder)
        schema.SubGraphAddTensors(builder, vector)
        subgraph = schema.SubGraphEnd(builder)
        vector = references(builder, schema.ModelStartSubgraphsVector, subgraph, subgraphs)
        schema.ModelStart(builder)
        schema.ModelAddSubgraphs(builder, vector)
        return int(schema.ModelEnd(builder))

    return finished(build)


def shared_option_strings(ops: int, name: str) -> bytes:
    """`ops` ops of their own whose composite options are one table with a long name."""

    def build(builder: Any) -> int:
        text = builder.CreateString(name)
        schema.StableHLOCompositeOptionsStart(builder)
        schema.StableHLOCompositeOptionsAddName(builder, text)
        options = schema.StableHLOCompositeOptionsEnd(builder)
        tables = []
        for _ in range(ops):
            schema.OperatorStart(builder)
            schema.OperatorAddBuiltinOptions2Type(builder, schema.BuiltinOptions2.StableHLOCompositeOptions)
            schema.OperatorAddBuiltinOptions2(builder, options)
            tables.append(schema.OperatorEnd(builder))
        schema.SubGraphStartOperatorsVector(builder, ops)
        for table in tables:
            builder.PrependUOffsetTRelative(table)
        vector = builder.EndVector()
        schema.SubGraphStart(builder)
        schema.SubGraphAddOperators(builder, vector)
        subgraph = schema.SubGraphEnd(builder)
        vector = references(builder, schema.ModelStartSubgraphsVector, subgraph, 1)
        schema.ModelStart(builder)
        schema.ModelAddSubgraphs(builder, vector)
        return int(schema.ModelEnd(builder))

    return finished(build)


def test_a_whole_model_is_well_formed(rich_model: Model) -> None:
    verify(rich_model.to_bytes())
    assert survives(rich_model.to_bytes())


def test_every_truncation_is_refused(rich_model: Model) -> None:
    data = rich_model.to_bytes()
    # The bytes from the root table on are all needed; a few alignment bytes at the end are not.
    last = next(n for n in range(len(data), 0, -1) if n == 1 or not survives(data[: n - 1]))
    assert last >= len(data) - 16
    for length in range(last):
        refuse(data[:length])


def test_random_bytes_are_refused() -> None:
    for seed in range(200):
        data = np.random.default_rng(seed).integers(0, 256, 10_000, np.uint8).tobytes()
        assert "no TFL3 identifier" in refuse(data)
        refuse(data[:4] + b"TFL3" + data[8:])


@pytest.mark.parametrize("data", [b"", b"\0", b"TFL3", b"\0" * 15, b"\0" * 64, b"\0\0\0\0TFL3" + b"\0" * 64])
def test_bytes_without_a_model_are_refused(data: bytes) -> None:
    refuse(data)


@pytest.mark.parametrize("offset", [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 1 << 20, 4096])
def test_a_root_outside_the_file_is_refused(rich_model: Model, offset: int) -> None:
    assert "points outside" in refuse(struct.pack("<I", offset) + rich_model.to_bytes()[4:])


def test_every_reference_pointing_outside_is_refused_or_harmless(rich_model: Model) -> None:
    data = rich_model.to_bytes()
    refused = 0
    for at in range(8, len(data) - 4, 4):
        for value in (0xFFFFFFFF, len(data)):
            refused += not survives(data[:at] + struct.pack("<I", value) + data[at + 4 :])
    assert refused > len(data) // 6


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (shared_tables(1000, 990), "refer to more than 2 times"),
        (shared_tables(3000, 3000), "refer to more than 2 times"),
        (shared_tables(1, 2000, "n" * 100_000), "refer to more than 2 times"),
        (shared_option_strings(2000, "n" * 100_000), "refer to more than 2 times"),
    ],
    ids=["tables", "more tables", "names", "names in options"],
)
def test_parts_shared_by_thousands_are_refused_at_once(data: bytes, why: str) -> None:
    before, began = peak_megabytes(), time.monotonic()
    assert why in refuse(data)
    assert time.monotonic() - began < SECONDS
    assert peak_megabytes() - before < MEGABYTES


def test_a_million_tables_are_the_limit(monkeypatch: pytest.MonkeyPatch, rich_model: Model) -> None:
    monkeypatch.setattr("harness.graph.verify.MAX_TABLES", 10)
    with pytest.raises(MalformedError, match="more than 10 tables"):
        verify(rich_model.to_bytes())


def by_hand(slot: int, offset: int, rest: bytes, table_size: int = 8) -> bytes:
    """A model whose one field, in `slot`, lies at `offset` of the root table and refers to what follows the table."""
    slots = struct.pack(f"<{slot + 1}H", *[0] * slot, offset)
    vtable = struct.pack("<HH", 4 + len(slots), table_size) + slots
    vtable += b"\0" * (-len(vtable) % 4)
    root = 8 + len(vtable)
    return struct.pack("<I4s", root, b"TFL3") + vtable + struct.pack("<iI", len(vtable), 4) + rest


def test_a_string_ends_inside_the_file() -> None:
    verify(by_hand(3, 4, struct.pack("<I", 9) + b"described"))
    with pytest.raises(MalformedError, match="points outside the 41-byte file"):
        verify(by_hand(3, 4, struct.pack("<I", 10) + b"described"))


def test_a_field_lies_inside_its_table() -> None:
    verify(by_hand(0, 4, b""))
    for offset, size in ((8, 8), (400, 8), (4, 4)):
        with pytest.raises(MalformedError, match="field 0 of the Model table at 16 lies outside the table"):
            verify(by_hand(0, offset, b"", size))


def test_a_table_that_contains_itself_is_refused() -> None:
    # The list of subgraphs has one entry, which points back at the model's own table.
    data = by_hand(2, 4, struct.pack("<Ii", 1, -16))
    verify(data[:-8] + struct.pack("<I", 0))
    refuse(data)


@pytest.mark.parametrize("length", [1 << 31, 0xFFFFFFFF, 1 << 24])
def test_a_vector_that_claims_a_huge_length_is_refused_at_once(rich_model: Model, length: int) -> None:
    data = rich_model.to_bytes()
    model = schema.Model.GetRootAs(data)
    places = {
        "subgraphs": model._tab.Vector(model._tab.Offset(8)) - 4,
        "tensors": model.Subgraphs(0)._tab.Vector(model.Subgraphs(0)._tab.Offset(4)) - 4,
        "shape": model.Subgraphs(0).Tensors(0)._tab.Vector(model.Subgraphs(0).Tensors(0)._tab.Offset(4)) - 4,
        "weights": model.Buffers(1)._tab.Vector(model.Buffers(1)._tab.Offset(4)) - 4,
        "name": model.Subgraphs(0).Tensors(0)._tab.Vector(model.Subgraphs(0).Tensors(0)._tab.Offset(10)) - 4,
        # Options are not walked; there the reader itself must notice.
        "attributes": _composite_attributes(model) - 4,
    }
    began = time.monotonic()
    for place in places.values():
        refuse(data[:place] + struct.pack("<I", length) + data[place + 4 :])
    assert time.monotonic() - began < SECONDS


def _composite_attributes(model: Any) -> int:
    table = model.Subgraphs(0).Operators(3).BuiltinOptions2()
    options = schema.StableHLOCompositeOptions()
    options.Init(table.Bytes, table.Pos)
    return int(options._tab.Vector(options._tab.Offset(8)))


def test_a_shape_of_a_thousand_axes_is_refused(rich_model: Model) -> None:
    root = Model.from_bytes(rich_model.to_bytes()).root
    root.subgraphs[0].tensors[0].shape = np.full(1000, 2**31 - 1, np.int32)
    assert "has rank 1000" in refuse(Model(root).to_bytes())


def test_flipped_bits_give_a_model_or_a_sentence(rich_model: Model) -> None:
    data = rich_model.to_bytes()
    rng = random.Random(0)
    before, survived, slowest = peak_megabytes(), 0, 0.0
    for _ in range(1500):
        place, bit = rng.randrange(len(data)), rng.randrange(8)
        began = time.monotonic()
        survived += survives(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        slowest = max(slowest, time.monotonic() - began)
    assert 150 < survived < 1350
    assert slowest < SECONDS
    assert peak_megabytes() - before < MEGABYTES


@pytest.mark.slow
def test_every_single_flipped_bit_gives_a_model_or_a_sentence(rich_model: Model) -> None:
    data = rich_model.to_bytes()
    for place in range(len(data)):
        for bit in range(8):
            survives(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])


def test_overwritten_words_give_a_model_or_a_sentence(rich_model: Model) -> None:
    data = rich_model.to_bytes()
    rng = random.Random(1)
    special = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(data))
    for _ in range(2000):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            value = rng.choice([*special, rng.getrandbits(32), rng.randrange(len(data))])
            width, place = rng.choice((1, 2, 4)), rng.randrange(len(data) - 4)
            changed[place : place + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        survives(bytes(changed))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda sub: sub.operators[0].__setattr__("opcodeIndex", 99), "operator code of op 0 is 99"),
        (lambda sub: sub.operators[0].inputs.__setitem__(0, 77), "input of op 0 is 77"),
        (lambda sub: sub.operators[0].inputs.__setitem__(0, -2), "input of op 0 is -2"),
        (lambda sub: sub.operators[0].outputs.__setitem__(0, -1), "output of op 0 is -1"),
        (lambda sub: sub.operators[0].__setattr__("intermediates", i32([50])), "intermediate of op 0 is 50"),
        (lambda sub: sub.outputs.__setitem__(0, 50), "output of subgraph 0 is 50"),
        (lambda sub: sub.tensors[0].__setattr__("buffer", 40), "tensor 0 of subgraph 0 names buffer 40"),
        (lambda sub: sub.operators[1].outputs.__setitem__(0, sub.operators[0].outputs[0]), "by op 0 and by op 1"),
        (lambda sub: sub.operators[1].outputs.__setitem__(0, sub.inputs[0]), "is an input of subgraph 0"),
        (lambda sub: sub.tensors[1].__setattr__("shape", i32([8, 9])), "takes 288 bytes, but its constant has"),
    ],
)
def test_a_graph_that_refers_to_what_is_not_there_is_refused(
    rich_model: Model, damage: Callable[[Any], None], why: str
) -> None:
    model = Model.from_bytes(rich_model.to_bytes())
    sub = model.root.subgraphs[0]
    for op in sub.operators:
        op.inputs, op.outputs = np.array(op.inputs), np.array(op.outputs)
    sub.outputs = np.array(sub.outputs)
    damage(sub)
    assert why in refuse(Model(model.root).to_bytes())


def test_a_signature_of_a_subgraph_that_is_not_there_is_refused(rich_model: Model) -> None:
    root = Model.from_bytes(rich_model.to_bytes()).root
    root.signatureDefs[0].subgraphIndex = 5
    assert "subgraph of a signature is 5" in refuse(Model(root).to_bytes())
    root.signatureDefs[0].subgraphIndex = 0
    root.signatureDefs[0].outputs[0].tensorIndex = 500
    assert "tensor of a signature is 500" in refuse(Model(root).to_bytes())


def test_the_sentence_names_the_file(tmp_path: Path, rich_model: Model) -> None:
    path = tmp_path / "half.tflite"
    path.write_bytes(rich_model.to_bytes()[:600])
    with pytest.raises(UsageError) as caught:
        Model.load(path)
    assert caught.value.message.startswith(f"{path} is not a readable .tflite: ")
    assert caught.value.next_step == "Export or copy the model again."


@pytest.mark.parametrize(
    ("kind", "field", "second"),
    [
        ("VarHandleOptions", "container", False),
        ("VarHandleOptions", "sharedName", False),
        ("StablehloCustomCallOptions", "callTargetName", True),
        ("StablehloCustomCallOptions", "backendConfig", True),
        ("StableHLOCompositeOptions", "name", True),
    ],
)
def test_a_string_among_an_ops_options_ends_inside_the_file(
    rich_model: Model, kind: str, field: str, second: bool
) -> None:
    """The reader makes Python text of it, of whatever length it claims."""
    root = Model.from_bytes(rich_model.to_bytes()).root
    options = getattr(schema, f"{kind}T")()
    setattr(options, field, "a text like no other")
    op, number = root.subgraphs[0].operators[0], "2" if second else ""
    setattr(op, f"builtinOptions{number}", options)
    setattr(op, f"builtinOptions{number}Type", getattr(getattr(schema, f"BuiltinOptions{number}"), kind))
    data = bytearray(Model(root).to_bytes())
    verify(bytes(data))
    at = data.index(b"a text like no other") - 4
    assert struct.unpack_from("<I", data, at) == (20,)
    struct.pack_into("<I", data, at, len(data))
    with pytest.raises(MalformedError, match="points outside"):
        verify(bytes(data))
