"""Ports that the file leaves unnamed get a name by place, in the file."""

from __future__ import annotations

import numpy as np
import pytest

from harness.api.ports import with_named_ports
from harness.graph.build import GraphBuilder
from harness.graph.model import Model


def summed(signature: str, names: tuple[str, str, str]) -> Model:
    """x + y, with the names given for x, y and the sum."""
    graph = GraphBuilder()
    x, y = graph.input("x", (2,)), graph.input("y", (2,))
    graph.output(graph.binary("ADD", x, y), "sum")
    root = graph.build(signature).root
    if signature:
        entries = (*root.signatureDefs[0].inputs, *root.signatureDefs[0].outputs)
    else:
        tensors = root.subgraphs[0].tensors
        entries = tuple(tensors[t] for t in (*root.subgraphs[0].inputs, *root.subgraphs[0].outputs))
    for entry, name in zip(entries, names, strict=True):
        entry.name = name
    return Model.from_bytes(Model(root).to_bytes())


def port_names(model: Model) -> list[str]:
    again = Model.from_bytes(model.to_bytes()).graph()
    return [port.name for port in (*again.inputs, *again.outputs)]


@pytest.mark.parametrize("signature", ["", "serve"])
@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("", "", ""), ["input_0", "input_1", "output_0"]),
        (("a", "", "c"), ["a", "input_1", "c"]),
        (("input_1", "", ""), ["input_1", "input_1~2", "output_0"]),
    ],
    ids=["none", "one", "a name that is taken"],
)
def test_a_port_without_a_name_is_named_by_its_place(
    signature: str, given: tuple[str, str, str], named: list[str]
) -> None:
    assert port_names(with_named_ports(summed(signature, given))) == named


def test_a_model_whose_ports_are_named_is_left_as_it_is() -> None:
    model = summed("", ("a", "b", "c"))
    assert with_named_ports(model) is model


def test_the_runtime_knows_the_ports_by_those_names() -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=with_named_ports(summed("", ("", "", ""))).to_bytes())
    interpreter.allocate_tensors()
    by_name = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    assert list(by_name) == ["input_0", "input_1"]
    interpreter.set_tensor(by_name["input_0"], np.asarray([1, 2], np.float32))
    interpreter.set_tensor(by_name["input_1"], np.asarray([10, 20], np.float32))
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    assert output["name"] == "output_0"
    assert interpreter.get_tensor(output["index"]).tolist() == [11, 22]
