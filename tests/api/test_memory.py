"""The memory that a run needs is compared with what is free before any is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.api import memory
from harness.api.compare import compare_command, run_command
from harness.api.memory import COPIES_TO_COMPILE, COPIES_TO_RUN, check_memory, free_bytes
from harness.api.session import ModelRequest
from harness.core.errors import UsageError
from harness.core.job import Options
from harness.graph.build import GraphBuilder
from harness.graph.model import Model

GIB = 1 << 30


def relu(*shape: int) -> Model:
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", shape)), "y")
    return graph.build()


def test_inputs_outputs_and_the_largest_op_are_counted() -> None:
    graph = relu(1, 16384, 16384).graph()  # 1 GiB in and out
    check_memory(graph, COPIES_TO_RUN, free=8 * GIB)
    with pytest.raises(UsageError) as caught:
        check_memory(graph, COPIES_TO_RUN, free=8 * GIB - 1)
    assert caught.value.message == (
        "The model takes at least 8.6 GB of memory here, of which 8.6 GB are free: its inputs have 1.1 GB, its outputs "
        "1.1 GB, each held 3 times, its largest op 2.1 GB."
    )
    check_memory(graph, COPIES_TO_RUN, free=None if free_bytes() is None else 1 << 60)


def test_where_nothing_is_run_the_weights_alone_count() -> None:
    graph = relu(1, 16384, 16384).graph()
    check_memory(graph, COPIES_TO_COMPILE, GIB, free=2 * GIB)
    with pytest.raises(UsageError) as caught:
        check_memory(graph, COPIES_TO_COMPILE, GIB, free=2 * GIB - 1)
    assert caught.value.message == (
        "The model takes at least 2.1 GB of memory here, of which 2.1 GB are free: its weights 1.1 GB, held 2 times."
    )


def test_weights_are_counted_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = GraphBuilder()
    graph.output(graph.fully_connected(graph.input("x", (1, 1024)), np.zeros((1024, 1024), np.float32)), "y")
    path = tmp_path / "model.tflite"
    path.write_bytes(graph.build().to_bytes())  # 4.2 MB of weights: 8.4 MB to run it, 16.8 MB to compare it
    request = ModelRequest(path, options=Options("cpu"), out=tmp_path / "results")
    monkeypatch.setattr(memory, "free_bytes", lambda: 12_000_000)
    run_command(request, warmup=0, iterations=1)
    with pytest.raises(UsageError, match=r"its weights 4\.2 MB, held 4 times, its largest op 0\.0 MB\."):
        compare_command(request)
    monkeypatch.setattr(memory, "free_bytes", lambda: 8_000_000)
    with pytest.raises(UsageError, match=r"its weights 4\.2 MB, held 2 times"):
        run_command(request, warmup=0, iterations=1)


def test_a_small_file_whose_output_is_large_is_refused_before_a_device_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 1))
    y = graph.input("y", (4096, 1))
    graph.output(graph.binary("ADD", graph.binary("ADD", x, graph.constant(np.ones((1, 4096)))), y), "z")
    path = tmp_path / "model.tflite"
    path.write_bytes(graph.build().to_bytes())
    monkeypatch.setattr(memory, "free_bytes", lambda: 1 << 26)
    request = ModelRequest(path, options=Options("cpu"), out=tmp_path / "results")
    for command in (lambda: run_command(request, warmup=0, iterations=1), lambda: compare_command(request)):
        with pytest.raises(UsageError, match=r"of memory here, of which 67\.1 MB are free"):
            command()
    assert not (tmp_path / "results").exists()


def test_inputs_from_a_file_are_not_unpacked_where_they_have_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, inputs = tmp_path / "model.tflite", tmp_path / "inputs.npz"
    path.write_bytes(relu(1, 1 << 22).to_bytes())
    np.savez_compressed(inputs, x=np.zeros((1, 1 << 22), np.float32))
    monkeypatch.setattr(memory, "free_bytes", lambda: 1 << 26)
    monkeypatch.setattr("harness.api.session.load_inputs", lambda *_: pytest.fail("unpacked"))
    request = ModelRequest(path, options=Options("cpu"), inputs=inputs, out=tmp_path / "results")
    with pytest.raises(UsageError, match="of memory here"):
        run_command(request, warmup=0, iterations=1)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    4 kB\nSwapFree: 1 kB\n"}, 5120),
        ({"proc/meminfo": "MemAvailable: much\n"}, None),
        ({}, None),
        (
            {
                "proc/meminfo": "MemAvailable: 4096 kB\n",
                "sys/fs/cgroup/memory.max": "100000\n",
                "sys/fs/cgroup/memory.current": "70000\n",
                "sys/fs/cgroup/memory.stat": "anon 3\ninactive_file 20000\n",
            },
            50000,
        ),
        ({"proc/meminfo": "MemAvailable: 4 kB\n", "sys/fs/cgroup/memory.max": "max\n"}, 4096),
    ],
)
def test_what_is_free_is_the_least_of_the_system_s_and_the_container_s(
    tmp_path: Path, files: dict[str, str], free: int | None
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert free_bytes(tmp_path) == free
