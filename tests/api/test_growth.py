"""Large models: the work to open one grows with its size and not with its square, or it is refused with the figure.

Work is counted, not timed. What one instruction of the interpreter does in C is not in the count, so that a search in a
list looks as cheap as one in a set: where names are looked up, comparisons are counted as well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.api.audit import audit_command
from harness.api.opening import as_in_the_file
from harness.api.ports import check_ports
from harness.core.errors import UsageError
from harness.core.job import Options
from harness.devices.execute import make_job, output_ports
from harness.devices.link import MAX_PAYLOADS
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.bytecodes import instructions
from tests.chains import chain

SMALL, LARGE = 100, 400
# Four times as large a model takes four times the work where that is linear, and a little less for what is fixed.
MOST = 4.1


def wide(count: int) -> Model:
    """As many inputs, each with a RELU behind it that is an output."""
    graph = GraphBuilder()
    for i in range(count):
        graph.output(graph.unary("RELU", graph.input(f"x{i}", (1, 4))), f"y{i}")
    return graph.build()


def long(count: int) -> Model:
    """A chain of as many ops."""
    return chain(*["RELU"] * count, shape=(1, 4))


@pytest.mark.parametrize("build", [wide, long])
def test_four_times_the_model_takes_four_times_the_work(build: Callable[[int], Model], tmp_path: Path) -> None:
    work = {}
    for count in (SMALL, LARGE):
        path = tmp_path / f"{count}.tflite"
        path.write_bytes(build(count).to_bytes())
        model = as_in_the_file(path).model
        work[count] = [
            instructions(lambda path=path: as_in_the_file(path)),  # type: ignore[misc]
            instructions(lambda path=path: audit_command(path, None, None, 60)),  # type: ignore[misc]
            instructions(lambda model=model: output_ports(model)),  # type: ignore[misc]
            instructions(lambda model=model: make_job(model, {}, Options(), timeout=60)),  # type: ignore[misc]
        ]
    ratios = [large / small for small, large in zip(work[SMALL], work[LARGE], strict=True)]
    assert max(ratios) < MOST, ratios


class Name(str):
    """A name that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)


def test_the_outputs_wanted_are_found_without_going_through_all_of_them_for_each() -> None:
    model = wide(LARGE)
    every = [Name(port.name) for port in model.graph().outputs]
    Name.compared = 0
    all_of_them = instructions(lambda: make_job(model, {}, Options(), timeout=60, wanted=every))
    assert Name.compared <= 4 * LARGE
    assert all_of_them < 2 * instructions(lambda: make_job(model, {}, Options(), timeout=60))


def test_more_inputs_than_one_message_holds_are_refused_with_the_figure() -> None:
    check_ports(wide(MAX_PAYLOADS).graph())
    with pytest.raises(UsageError, match=f"The model has {MAX_PAYLOADS + 1} inputs, of which a device is sent at most"):
        check_ports(wide(MAX_PAYLOADS + 1).graph())


def test_names_longer_than_one_message_in_all_are_refused_with_the_figure() -> None:
    graph = GraphBuilder()
    for i in range(1200):
        graph.output(graph.unary("RELU", graph.input(f"x{i}-{'n' * 900}", (1, 4))), f"y{i}")
    with pytest.raises(UsageError, match=r"1200 inputs and 1200 outputs take 1\.2 MB"):
        check_ports(graph.build().graph())


def test_a_port_larger_than_one_tensor_may_be_is_refused_with_the_figure() -> None:
    model = wide(2)
    graph = model.graph()
    model.root.subgraphs[0].tensors[graph.inputs[1].tensor].shape = np.asarray([1 << 15, 1 << 15], np.int32)
    with pytest.raises(UsageError, match=r"Input 'x1' has 4\.3 GB, over the 2\.1 GB of one tensor"):
        check_ports(model.graph())
