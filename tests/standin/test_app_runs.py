"""Jobs in the app: refused where they are wrong, and where the runtime is the host's, the same bits as there."""

from __future__ import annotations

import hashlib
import re
import statistics
import time
from typing import Any

import numpy as np
import pytest

from harness.core.job import Options, Rejected
from harness.devices.execute import completed, make_job
from harness.devices.host.device import HostDevice
from harness.devices.residency import residency_of
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import f32, normal
from tests.standin.asking import ONES, SECONDS, Asker, Direct, request_for
from tests.standin.scenes import crossed_signature, mixed_types, small_network


class TestRuns:
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"sha256": "0" * 64}, "model 000000000000 was not sent"),
            ({"options": None}, "the options lack accelerator, precision or threads, or hold more"),
            ({"options": {"accelerator": "cpu"}}, "the options lack accelerator"),
            ({"options": {"extra": 1}}, "or hold more"),
            ({"options": {"accelerator": 3}}, "accelerator is a word"),
            ({"options": {"accelerator": "tpu"}}, "this device has no accelerator 'tpu'"),
            ({"options": {"accelerator": "npu"}}, "this device has no accelerator 'npu'"),
            ({"options": {"accelerator": "reference"}}, "this device has no accelerator 'reference'"),
            ({"options": {"accelerator": "gpu", "precision": "fp8"}}, "one of default, fp16, fp32, fp16-fp32acc"),
            ({"options": {"precision": "fp16"}}, "the CPU computes in single precision, not fp16"),
            ({"options": {"threads": -1}}, "-1 is no number of threads"),
            ({"options": {"threads": True}}, "True is no number of threads"),
            ({"options": {"threads": "4"}}, "'4' is no number of threads"),
            ({"options": {"accelerator": "gpu", "backend": "metal"}}, "backend is one of default, opencl, opengl"),
            ({"options": {"accelerator": "gpu", "fallback": "npu"}}, "fallback is one of none, cpu"),
            ({"options": {"fallback": "cpu"}}, "back end, storage, priority and fallback are the GPU's options"),
            ({"options": {"backend": "opencl"}}, "back end, storage, priority and fallback are the GPU's options"),
            ({"outputs": "y"}, "outputs and positions are two lists of one length"),
            ({"outputs": ["y", "z"]}, "outputs and positions are two lists of one length"),
            ({"outputs": [1]}, "outputs are names, positions are small numbers"),
            ({"positions": [-1]}, "outputs are names, positions are small numbers"),
            ({"positions": [0.5]}, "outputs are names, positions are small numbers"),
            ({"outputs": ["y", "y"], "positions": [0, 0]}, "each output is wanted once"),
            ({"outputs": ["other"], "positions": [1]}, "the model has no output 1"),
            ({"warmup": -1}, "warmup and iterations are numbers below a million"),
            ({"iterations": 1 << 21}, "warmup and iterations are numbers below a million"),
            ({"iterations": 0}, "of a model that runs at least once"),
        ],
    )
    def test_a_malformed_run_is_refused_and_the_next_one_works(
        self, asker: Asker, plus_one: Model, changes: dict[str, Any], why: str
    ) -> None:
        asker.put(plus_one)
        good = request_for(plus_one)
        wrong = good | changes
        if len(changes.get("options") or "") > 0 and "lack" not in why:
            wrong["options"] = good["options"] | changes["options"]
        assert why in asker.refusal("run", [("x", ONES)], **wrong)
        output, end = asker.ask("run", [("x", ONES)], **good)
        assert (output.payloads["y"].tolist(), end.type) == ([[2, 2, 2, 2]], "completed")

    @pytest.mark.parametrize("accelerator", ["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
    def test_inputs_that_do_not_fit_are_refused(self, asker: Asker, plus_one: Model, accelerator: str) -> None:
        asker.put(plus_one)
        good = request_for(plus_one, accelerator)
        for payloads, why in [
            ([], "0 inputs came for a model that takes 1"),
            ([("x", ONES), ("y", ONES)], "2 inputs came for a model that takes 1"),
            ([("z", ONES)], "Failed to find input: z"),
            ([("x", ONES[:, :3])], "input 'x' came as float32 [1, 3], not float32 [1, 4]"),
            ([("x", np.ones((4, 1), np.float32))], "input 'x' came as float32 [4, 1], not float32 [1, 4]"),
            ([("x", ONES.astype(np.int32))], "input 'x' came as int32 [1, 4], not float32 [1, 4]"),
            ([("x", ONES.astype(np.float16))], "input 'x' came as float16 [1, 4], not float32 [1, 4]"),
        ]:
            asker.ask("run", [("x", 7 * ONES)], **good)  # what an input left over from before would be
            assert asker.refusal("run", payloads, **good) == why
            assert asker.ask("run", [("x", ONES)], **good)[0].payloads["y"].tolist() == [[2, 2, 2, 2]]

    def test_every_type_that_the_kotlin_api_has_arrives_whole(self, direct: Direct) -> None:
        model, inputs, expected = mixed_types()
        outcome = completed(direct, make_job(model, inputs, Options("cpu"), timeout=SECONDS), "checking the types")
        assert {name: (v.dtype.name, v.tolist()) for name, v in outcome.outputs.items()} == {
            name: (values.dtype.name, values.tolist()) for name, values in expected.items()
        }

    @pytest.mark.parametrize("wanted", [None, ["sum"], ["difference"]])
    def test_a_signature_of_another_order_gives_each_value_under_its_name(
        self, direct: Direct, wanted: list[str] | None
    ) -> None:
        model = crossed_signature()
        inputs = {"b": f32([1, 2]), "a": f32([5, 5])}
        job = make_job(model, inputs, Options("cpu"), timeout=SECONDS, wanted=wanted)
        outputs = completed(direct, job, "running").outputs
        expected = {"sum": [6, 7], "difference": [4, 3]}
        assert {name: values.tolist() for name, values in outputs.items()} == {
            name: expected[name] for name in wanted or expected
        }

    def test_a_type_that_the_kotlin_api_lacks_is_refused_with_a_sentence(self, direct: Direct) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 4), np.uint8)
        graph.output(
            graph.op("RESHAPE", [x, graph.constant(np.asarray([2, 2], np.int32))], (2, 2), dtype=np.uint8), "y"
        )
        job = make_job(graph.build(), {"x": np.ones((1, 4), np.uint8)}, Options("cpu"), timeout=SECONDS)
        outcome = direct.run(job)
        assert isinstance(outcome, Rejected)
        assert outcome.reason.startswith("LiteRT's Kotlin API has buffers of float32, int32, int64, int8 and bool only")

    def test_an_output_that_the_heap_cannot_hold_is_refused_with_the_figures_and_the_app_lives(
        self, direct: Direct, plus_one: Model
    ) -> None:
        # The app's heap is 512 MiB on the stand-in; the runtime's own memory is not of it.
        elements = 150 << 20
        graph = GraphBuilder()
        sizes = graph.constant(np.asarray([1, elements], np.int32))
        graph.output(graph.op("TILE", [graph.input("x", (1, 1)), sizes], (1, elements)), "y")
        job = make_job(graph.build(), {"x": ONES[:, :1]}, Options("cpu"), timeout=SECONDS)
        outcome = direct.run(job)
        assert isinstance(outcome, Rejected)
        found = re.fullmatch(
            r"output 'y' has (\d+) bytes, and (\d+) of the (\d+) bytes of the app's heap are free", outcome.reason
        )
        assert found, outcome.reason
        assert int(found[1]) == 4 * elements > int(found[3]) > int(found[2]) > 0
        again = make_job(plus_one, {"x": ONES}, Options("cpu"), timeout=SECONDS)
        assert completed(direct, again, "running").outputs["y"].tolist() == [[2, 2, 2, 2]]

    def test_bytes_that_are_no_model_are_refused(self, asker: Asker) -> None:
        data = b"no model at all"
        digest = hashlib.sha256(data).hexdigest()
        asker.ask("put", [("model", np.frombuffer(data, np.uint8))], sha256=digest)
        options = {"accelerator": "cpu", "precision": "default", "threads": 0}
        run = {"sha256": digest, "options": options, "outputs": ["y"], "positions": [0], "warmup": 0, "iterations": 1}
        assert asker.refusal("run", [("x", ONES)], **run) == "Failed to load model from file"

    def test_a_job_that_only_compiles_needs_no_inputs(self, asker: Asker, plus_one: Model) -> None:
        asker.put(plus_one)
        (end,) = asker.ask("run", **request_for(plus_one, outputs=[], positions=[], iterations=0))
        assert (end.type, end.fields["samples"], end.fields["compiled"]) == ("completed", [], True)
        assert end.fields["compile_ns"] > 0

    def test_samples_tell_write_run_and_read_apart_from_compile(self, asker: Asker, plus_one: Model) -> None:
        asker.put(plus_one)
        *_, end = asker.ask("run", [("x", ONES)], **request_for(plus_one, warmup=2, iterations=3))
        assert (len(end.fields["samples"]), end.fields["compiled"], end.fields["thermal"]) == (3, True, "none")
        assert all(part > 0 for sample in end.fields["samples"] for part in sample)
        *_, again = asker.ask("run", [("x", ONES)], **request_for(plus_one))
        assert (again.fields["compiled"], again.fields["compile_ns"]) == (False, 0)

    def test_a_final_run_that_failed_is_not_used_again(self, asker: Asker, plus_one: Model) -> None:
        asker.put(plus_one)
        wanted = {"outputs": ["y", "other"], "positions": [0, 1], "final": True}
        asker.ident += 1
        asker.link.send("run", asker.ident, None, [("x", ONES)], **(request_for(plus_one) | wanted))
        assert [asker.link.receive(time.monotonic() + SECONDS).type for _ in range(2)] == ["output", "failed"]
        assert asker.ask("run", [("x", ONES)], **request_for(plus_one))[0].payloads["y"].tolist() == [[2, 2, 2, 2]]

    def test_a_tiny_job_takes_at_most_10_ms_there_and_back(self, direct: Direct, plus_one: Model) -> None:
        job = make_job(plus_one, {"x": ONES}, Options("cpu"), timeout=SECONDS)
        completed(direct, job, "warming up")
        seconds = []
        for _ in range(100):
            begun = time.perf_counter()
            completed(direct, job, "timing")
            seconds.append(time.perf_counter() - begun)
        assert statistics.median(seconds) <= 0.010


@pytest.mark.gpu
class TestAgainstTheHost:
    """The same runtime behind both: the same bits."""

    @pytest.mark.parametrize(
        "options",
        [Options("cpu"), Options("cpu", threads=1), Options("gpu"), Options("gpu", "fp32"), Options("gpu", "fp16")],
        ids=["cpu", "one thread", "gpu", "fp32", "fp16"],
    )
    def test_outputs_are_bit_identical(self, direct: Direct, options: Options) -> None:
        job = make_job(small_network(), {"x": normal((1, 16))}, options, timeout=SECONDS)
        here = completed(direct, job, "running in the app")
        with HostDevice() as host:
            there = completed(host, job, "running on the host")
        assert here.outputs["y"].tobytes() == there.outputs["y"].tobytes()
        assert here.residency.full is there.residency.full is (options.accelerator == "gpu")

    def test_the_log_names_the_gpu_and_how_many_nodes_it_took(self, direct: Direct) -> None:
        model = small_network()
        outcome = completed(direct, make_job(model, {"x": normal((1, 16))}, Options("gpu"), timeout=SECONDS), "a run")
        ops = len(model.graph().ops)
        assert residency_of(outcome.log, True) == outcome.residency
        assert (outcome.residency.delegated, outcome.residency.total, outcome.residency.partitions) == (ops, ops, 1)
        assert outcome.adapter

    def test_fp32_accumulation_is_there_where_the_python_api_has_none(self, direct: Direct) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 4096))
        graph.output(graph.fully_connected(x, np.ones((8, 4096), np.float32), np.zeros(8, np.float32)), "y")
        model, inputs = graph.build(), {"x": np.full((1, 4096), 0.1, np.float32)}
        errors = {}
        for precision in ("fp16", "fp16-fp32acc", "fp32"):
            options = Options("gpu", precision)
            outcome = completed(direct, make_job(model, inputs, options, timeout=SECONDS), precision)
            errors[precision] = float(np.abs(outcome.outputs["y"] - 409.6).max())
        assert errors["fp32"] < 0.01 <= errors["fp16-fp32acc"] < errors["fp16"]

    def test_a_model_that_the_gpu_takes_in_part_is_refused_with_the_op(self, direct: Direct) -> None:
        graph = GraphBuilder()
        y = graph.unary("RELU", graph.input("x", (1, 2, 2, 2, 2)))
        graph.output(y, "y")
        job = make_job(graph.build(), {"x": normal((1, 2, 2, 2, 2))}, Options("gpu"), timeout=SECONDS)
        outcome = direct.run(job)
        with HostDevice() as host:
            there = host.run(job)
        assert isinstance(outcome, Rejected) and isinstance(there, Rejected)
        assert outcome.ops == there.ops

    def test_the_cpu_takes_the_rest_where_it_is_asked_to(self, direct: Direct) -> None:
        graph = GraphBuilder()
        wide = graph.unary("RELU", graph.input("x", (1, 2, 2, 2, 2)))
        y = graph.unary("TANH", graph.unary("RELU", graph.reshape(wide, (1, 16))))
        graph.output(y, "y")
        values = {"x": normal((1, 2, 2, 2, 2))}
        job = make_job(graph.build(), values, Options("gpu", fallback="cpu"), timeout=SECONDS)
        outcome = completed(direct, job, "running in the app")
        with HostDevice() as host:
            there = completed(host, job, "running on the host")
        assert outcome.outputs["y"].tobytes() == there.outputs["y"].tobytes()
        assert outcome.residency == there.residency
        assert (there.residency.delegated, there.residency.total, there.residency.full) == (2, 4, False)
