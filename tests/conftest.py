"""What the tests of several layers share: the host's plain CPU kernels in this process, and a graph with everything."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.edit import signature_def
from harness.graph.model import Model
from tests import documents
from tests.arrays import Evaluate, Values
from tests.browser import Browser, started


@pytest.fixture(autouse=True)
def documents_have_their_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every JSON document of the package's is held to its schema, in every test."""
    documents.watch(monkeypatch)


@pytest.fixture(scope="session")
def evaluate() -> Evaluate:
    """The outputs of a model's first signature, by name, from the kernels that no delegate replaces."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    def run(model: Model, inputs: Values) -> Values:
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(model_content=model.to_bytes(), experimental_op_resolver_type=plain, num_threads=1)
        runner = interpreter.get_signature_runner(model.signatures[0])
        return {name: np.array(values) for name, values in runner(**inputs).items()}

    return run


def made_rich() -> Model:
    """A small model with everything that the reader follows: two subgraphs and signatures, quantization, metadata, a
    custom op with options, a composite with a name and attributes, a shape signature, int and bool tensors."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 4, 8))
    hidden = graph.fully_connected(x, np.arange(64, dtype=np.float32).reshape(8, 8) / 64, np.ones(8, np.float32))
    flags = graph.op("GREATER", [hidden, graph.constant([0.5])], (1, 4, 8), schema.GreaterOptionsT(), dtype=np.bool_)
    counts = graph.op("CAST", [flags], (1, 4, 8), schema.CastOptionsT(), dtype=np.int32)
    composite = schema.StableHLOCompositeOptionsT()
    composite.name, composite.decompositionSubgraphIndex = "odml.gelu", 1
    composite.compositeAttributes = np.arange(9, dtype=np.uint8)
    gelu = graph.op("STABLEHLO_COMPOSITE", [hidden], (1, 4, 8))
    own = graph.op("CUSTOM", [gelu], (1, 4, 8), custom="MyOwnOp")
    graph.output(graph.softmax(own), "y")
    graph.output(counts, "counts")
    root = graph.build().root
    ops = root.subgraphs[0].operators
    ops[gelu_at := 3].builtinOptions2 = composite
    ops[gelu_at].builtinOptions2Type = schema.BuiltinOptions2.StableHLOCompositeOptions
    ops[4].customOptions = np.arange(24, dtype=np.uint8)
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = np.asarray([0.5], np.float32), np.asarray([3], np.int64)
    root.subgraphs[0].tensors[x].quantization = quantization
    root.subgraphs[0].tensors[x].shapeSignature = np.asarray([1, 4, 8], np.int32)
    inner = GraphBuilder()
    inner.output(inner.unary("GELU", inner.input("v", (1, 4, 8)), schema.GeluOptionsT()), "w")
    second = inner.build().root
    for op in second.subgraphs[0].operators:
        op.opcodeIndex += len(root.operatorCodes)
    root.operatorCodes += second.operatorCodes
    root.subgraphs.append(second.subgraphs[0])
    root.signatureDefs.append(signature_def("inner", [("v", 0)], [("w", 1)], subgraph=1))
    metadata = schema.MetadataT()
    metadata.name, metadata.buffer = "min_runtime_version", 0
    root.metadata = [metadata]
    return Model.from_bytes(Model(root).to_bytes())


@pytest.fixture(scope="session")
def rich_model() -> Model:
    """The same, made once."""
    return made_rich()


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some file systems on a network."""

    def none(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real browser, headless."""
    with started(tmp_path_factory.mktemp("profile")) as running:
        yield running
