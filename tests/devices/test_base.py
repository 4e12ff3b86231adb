"""The client's side of the wire, against a peer that lies: every lie ends in an outcome, and the next job works."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.core.errors import DeviceError
from harness.core.job import Completed, Crashed, Job, Lost, Options, Rejected, Residency, Sample, TimedOut
from harness.devices.base import Device, DeviceFacts
from harness.devices.execute import make_job
from harness.devices.link import PROTOCOL, Link, Message
from harness.devices.refusal import explain_refusal
from harness.devices.residency import FACT_LIMIT, adapter_of, phone_gpu, residency_of
from harness.graph.model import Model
from tests.arrays import f32

Scripted = Callable[..., tuple[Device, Any]]
ONES = np.ones((1, 4), np.float32)
TWOS = 2 * ONES
GOOD_END: dict[str, Any] = {"samples": [[1, 2, 3]], "compile_ns": 5, "compiled": True, "full": True}


@pytest.fixture
def job(plus_one: Model) -> Job:
    return make_job(plus_one, {"x": ONES}, Options(), timeout=2)


def say_outputs(*outputs: Any, **end: Any) -> Callable[[Link, Message], None]:
    """Answer a run with outputs as (name, values), and its end."""

    def answer(link: Link, request: Message) -> None:
        for output in outputs:
            link.send("output", request.id, payloads=[output])
        link.send("completed", request.id, **(GOOD_END | end))

    return answer


def say(kind: str, ident: int | None = None, /, **fields: Any) -> Callable[[Link, Message], None]:
    return lambda link, request: link.send(kind, request.id if ident is None else ident, **fields)


def close(link: Link, request: Message) -> None:
    link.close()


def lost(outcome: Any) -> str:
    assert isinstance(outcome, Lost), outcome
    return outcome.reason


class TestHonestPeer:
    def test_a_run_brings_everything_back(self, scripted: Scripted, job: Job) -> None:
        device, peer = scripted(run=say_outputs(("y", TWOS)))
        outcome = device.run(job)
        assert isinstance(outcome, Completed)
        assert outcome.outputs["y"].tolist() == TWOS.tolist()
        assert (outcome.samples, outcome.compile_ns, outcome.compiled) == ((Sample(1, 2, 3),), 5, True)
        assert outcome.residency == Residency(True)
        assert (device.runs, device.compiles) == (1, 1)
        assert device.facts() == DeviceFacts("scripted", "scripted", "9.9.9", "", "scripted")
        request = next(m for m in peer.requests if m.type == "run")
        assert request.payloads["x"].tolist() == ONES.tolist()
        assert request.fields == {
            "sha256": job.sha256,
            "options": {"accelerator": "gpu", "precision": "default", "threads": 0},
            "outputs": ["y"],
            "positions": [0],
            "warmup": 0,
            "iterations": 1,
            "final": False,
        }

    def test_a_choice_for_the_gpu_of_a_phone_is_sent_only_when_it_is_made(self, scripted: Scripted, job: Job) -> None:
        device, peer = scripted(run=say_outputs(("y", TWOS)))
        device.run(replace(job, options=Options("gpu", backend="opencl", priority="low")))
        (request,) = (m for m in peer.requests if m.type == "run")
        assert request.fields["options"] == {
            "accelerator": "gpu",
            "precision": "default",
            "threads": 0,
            "backend": "opencl",
            "priority": "low",
        }

    @pytest.mark.parametrize(("beside", "seen"), [(True, Residency(True, 3, 3, 1)), (False, Residency(True, 1, 1, 1))])
    def test_where_the_cpu_is_always_beside_the_gpu_its_own_delegate_is_not_counted(
        self, scripted: Scripted, job: Job, beside: bool, seen: Residency
    ) -> None:
        line = "INFO: Replacing {0} out of {0} node(s) with delegate ({1}) node, yielding 1 partitions for s.\n"
        device, peer = scripted(run=say_outputs(("y", TWOS)))
        device.cpu_beside = beside
        peer.words = line.format(3, "LITERT_CL") + line.format(1, "TfLiteXNNPackDelegate")
        outcome = device.run(job)
        assert isinstance(outcome, Completed)
        assert outcome.residency == seen

    def test_where_bytes_count_outputs_may_come_as_float16(self, scripted: Scripted, job: Job) -> None:
        for narrow in (True, False):
            device, peer = scripted(run=say_outputs(("y", TWOS.astype(np.float16))))
            device.narrow = narrow
            outcome = device.run(job)
            request = next(m for m in peer.requests if m.type == "run")
            assert request.fields.get("narrow", False) is narrow
            if narrow:
                assert isinstance(outcome, Completed)
                assert outcome.outputs["y"].dtype == np.float32
                assert outcome.outputs["y"].tobytes() == TWOS.tobytes()
            else:
                assert lost(outcome).startswith("output 'y' came as float16 [1, 4], not float32 [1, 4]")

    def test_the_thermal_status_after_the_run_is_kept(self, scripted: Scripted, job: Job) -> None:
        device, _ = scripted(run=say_outputs(("y", TWOS), thermal="light"))
        outcome = device.run(job)
        assert isinstance(outcome, Completed)
        assert outcome.thermal == "light"

    def test_a_model_that_is_there_is_not_sent(self, scripted: Scripted, job: Job) -> None:
        device, peer = scripted(run=say_outputs(("y", TWOS)))
        device.run(job)
        assert [m.type for m in peer.requests] == ["hello", "has", "run"]

    def test_what_completed_the_last_job_is_not_offered_again(self, scripted: Scripted, job: Job) -> None:
        device, peer = scripted(run=say_outputs(("y", TWOS)))
        final = replace(job, final=True)
        other = replace(job, options=Options("gpu", "fp32"))
        for each in (job, final, job, other):
            assert isinstance(device.run(each), Completed)
        assert [m.type for m in peer.requests] == ["hello", "has", "run", "run", "has", "run", "has", "run"]
        peer.answers = peer.answers | {"run": say("failed", kind="rejected", reason="too hot")}
        device.run(other)
        device.run(other)
        assert [m.type for m in peer.requests][8:] == ["run", "has", "run"]

    def test_a_model_that_is_not_there_is_sent_once(self, scripted: Scripted, job: Job) -> None:
        def put(link: Link, request: Message) -> None:
            assert request.payloads["model"].tobytes() == job.model
            link.send("put", request.id)

        device, peer = scripted(has=say("has", present=False), put=put, run=say_outputs(("y", TWOS)))
        assert isinstance(device.run(job), Completed)
        assert [m.type for m in peer.requests] == ["hello", "has", "put", "run"]

    def test_a_sink_takes_outputs_as_they_arrive(self, scripted: Scripted, job: Job) -> None:
        device, _ = scripted(run=say_outputs(("y", TWOS)))
        taken: list[tuple[str, Any]] = []
        outcome = device.run(job, lambda name, values: taken.append((name, values.tolist())))
        assert isinstance(outcome, Completed)
        assert outcome.outputs == {}
        assert taken == [("y", TWOS.tolist())]

    def test_a_refusal_leaves_the_process_alone(self, scripted: Scripted, job: Job) -> None:
        device, peer = scripted(run=say("failed", kind="rejected", reason="too hot"))
        assert device.run(job) == Rejected("too hot")
        assert peer.killed == 0
        assert (device.runs, device.compiles) == (0, 0)

    def test_a_refused_model_is_a_refusal(self, scripted: Scripted, job: Job) -> None:
        refuse = say("failed", kind="rejected", reason="the model cannot be stored (No space left on device)")
        device, _ = scripted(has=say("has", present=False), put=refuse)
        assert device.run(job) == Rejected("the model cannot be stored (No space left on device)")


class TestLiar:
    @pytest.mark.parametrize(
        ("answers", "why"),
        [
            ({"run": say("completed", 77, **GOOD_END)}, "answer 77 came to request 3"),
            ({"has": say("has", 0, present=True)}, "answer 0 came to request 2"),
            ({"has": say("output")}, "'output' came where the model was offered"),
            ({"has": say("completed", **GOOD_END)}, "'completed' came where the model was offered"),
            ({"has": say("has", present=False), "put": say("banana")}, "'banana' came where the model was offered"),
            ({"run": say_outputs()}, "'completed' came with 1 outputs still missing"),
            ({"run": say("hello")}, "'hello' came with 1 outputs still missing"),
            ({"run": say_outputs(("y", TWOS), ("y", TWOS))}, "bytes of payload are announced where at most 0"),
            ({"run": say_outputs(("z", TWOS))}, "output 'y' came as nothing, not float32 [1, 4]"),
            ({"run": say_outputs(("y", TWOS[0]))}, "output 'y' came as float32 [4], not float32 [1, 4]"),
            ({"run": say_outputs(("y", TWOS.astype(np.int32)))}, "output 'y' came as int32 [1, 4]"),
            ({"run": say_outputs(("y", f32([[1, 2, 3]])))}, "output 'y' came as float32 [1, 3]"),
            ({"run": say_outputs(("y", np.ones((1, 5), np.float32)))}, "20 bytes of payload are announced"),
            ({"run": say_outputs(("y", TWOS.astype(np.float64)))}, "32 bytes of payload are announced"),
            ({"run": say_outputs(("y", TWOS), samples=[])}, "0 samples came for 1 iterations"),
            ({"run": say_outputs(("y", TWOS), samples=[[1, 2, 3]] * 2)}, "2 samples came for 1 iterations"),
            ({"run": say_outputs(("y", TWOS), samples=[[1, 2]])}, "the run's end came without samples"),
            ({"run": say_outputs(("y", TWOS), samples=[["a", "b", "c"]])}, "the run's end came without samples"),
            ({"run": say_outputs(("y", TWOS), samples=7)}, "the run's end came without samples"),
            ({"run": say_outputs(("y", TWOS), compile_ns=None)}, "the run's end came without samples"),
            ({"run": close}, "the other side closed the connection"),
            ({"has": close}, "the other side closed the connection"),
        ],
    )
    def test_a_lie_loses_the_device(self, scripted: Scripted, job: Job, answers: Any, why: str) -> None:
        device, peer = scripted(**answers)
        assert why in lost(device.run(job))
        assert peer.killed == 1
        peer.answers = peer.answers | {"has": say("has", present=True), "run": say_outputs(("y", TWOS))}
        assert isinstance(device.run(job), Completed)

    @pytest.mark.parametrize("values", [TWOS[0], TWOS[:, :3], np.ones((1, 5), np.float32), TWOS.astype(np.int32)])
    def test_an_output_unlike_what_the_model_states_is_named(self, scripted: Scripted, job: Job, values: Any) -> None:
        device, _ = scripted(run=say_outputs(("y", values)))
        outcome = device.run(job)
        assert isinstance(outcome, Lost)
        assert outcome.output == "y"

    @pytest.mark.parametrize(
        "end",
        [
            {"samples": [[10**400, 1, 1]]},
            {"samples": [[-1, 1, 1]]},
            {"samples": [[1, 1, 1 << 63]]},
            {"samples": [[1, 1, 1e300]]},
            {"compile_ns": 10**400},
            {"compile_ns": -5},
        ],
    )
    def test_a_time_that_cannot_be_loses_the_device(self, scripted: Scripted, job: Job, end: dict[str, Any]) -> None:
        device, _ = scripted(run=say_outputs(("y", TWOS), **end))
        assert "a time of" in lost(device.run(job))

    def test_an_end_with_numbers_that_json_lacks_loses_the_device(self, scripted: Scripted, job: Job) -> None:
        def answer(link: Link, request: Message) -> None:
            link.send("output", request.id, payloads=[("y", TWOS)])
            raw = b'{"type": "completed", "id": %d, "payloads": [], "samples": [[NaN, 1, 1]],' % request.id
            raw += b' "compile_ns": 1, "compiled": true, "full": true}'
            link._sock.send(b"LDH1" + len(raw).to_bytes(4, "big") + raw)

        device, _ = scripted(run=answer)
        assert "the run's end came without samples" in lost(device.run(job))

    def test_two_outputs_in_the_wrong_order_lose_the_device(self, scripted: Scripted, plus_one: Model) -> None:
        from harness.graph.build import GraphBuilder

        graph = GraphBuilder()
        x = graph.input("x", (1, 4))
        graph.output(graph.unary("RELU", x), "a")
        graph.output(graph.unary("ABS", x), "b")
        device, _ = scripted(run=say_outputs(("b", ONES), ("a", ONES)))
        outcome = device.run(make_job(graph.build(), {"x": ONES}, Options(), timeout=2))
        assert lost(outcome) == "output 'a' came as nothing, not float32 [1, 4]"

    def test_silence_is_a_timeout(self, scripted: Scripted, job: Job, plus_one: Model) -> None:
        device, peer = scripted(run=lambda link, request: None)
        quick = make_job(plus_one, {"x": ONES}, Options(), timeout=0.2)
        peer.words = "last words"
        began = time.monotonic()
        assert device.run(quick) == TimedOut(0.2, "last words")
        assert 0.2 <= time.monotonic() - began < 2
        assert peer.killed == 1
        peer.answers["run"] = say_outputs(("y", TWOS))
        assert isinstance(device.run(job), Completed)

    def test_a_death_is_a_crash_with_its_signal_and_log(self, scripted: Scripted, job: Job) -> None:
        device, peer = scripted(run=close)
        peer.died, peer.words = ("the app was ended by SIGABRT", "SIGABRT"), "assertion failed"
        assert device.run(job) == Crashed("the app was ended by SIGABRT", "SIGABRT", "assertion failed")


class TestHello:
    @pytest.mark.parametrize(
        ("hello", "why"),
        [
            (say("hello", protocol=PROTOCOL + 1, facts={}), "speaks another protocol"),
            (say("failed", kind="rejected", reason="protocol 1 is asked for, I speak 2"), "I speak 2"),
            (say("hello", protocol=PROTOCOL), "speaks another protocol"),
            (say("hello", protocol=PROTOCOL, facts="none"), "speaks another protocol"),
            (say("has", protocol=PROTOCOL, facts={}), "speaks another protocol"),
            (say("hello", 99, protocol=PROTOCOL, facts={}), "did not start: answer 99 came to request 1"),
            (close, "did not start: the other side closed the connection"),
        ],
    )
    def test_a_wrong_hello_is_a_device_error(self, scripted: Scripted, job: Job, hello: Any, why: str) -> None:
        device, peer = scripted(hello=hello)
        with pytest.raises(DeviceError) as caught:
            device.run(job)
        assert why in caught.value.message
        assert caught.value.next_step
        assert peer.killed == 1

    def test_the_last_line_of_the_log_says_why_it_did_not_start(self, scripted: Scripted) -> None:
        device, peer = scripted(hello=close)
        peer.died, peer.words = ("the worker ended with exit code 1", ""), "Traceback\nNo module named ai_edge_litert\n"
        with pytest.raises(DeviceError) as caught:
            device.facts()
        assert caught.value.message == (
            "Device 'scripted' did not start: the worker ended with exit code 1. No module named ai_edge_litert"
        )


class TestTheCallersOwnFaults:
    @pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
    def test_a_sink_that_fails_spoils_no_later_job(self, scripted: Scripted, job: Job, fault: BaseException) -> None:
        device, peer = scripted(run=say_outputs(("y", TWOS)))

        def fail(name: str, values: Any) -> None:
            raise fault

        with pytest.raises(type(fault)):
            device.run(job, fail)
        assert peer.killed == 1
        outcome = device.run(job)
        assert isinstance(outcome, Completed)
        assert outcome.outputs["y"].tolist() == TWOS.tolist()

    def test_resting_says_bye_and_starts_again_when_needed(self, scripted: Scripted, job: Job) -> None:
        device, peer = scripted(run=say_outputs(("y", TWOS)))
        device.run(job)
        device.stop()
        assert peer.killed == 1
        assert isinstance(device.run(job), Completed)
        assert [m.type for m in peer.requests].count("hello") == 2


class TestTheRuntimesWords:
    def test_refused_ops_are_taken_from_the_log(self) -> None:
        log = (
            "INFO: something\n"
            "ERROR: Following operations are not supported by GPU delegate:\n"
            "ARG_MAX: Not supported op ARG_MAX\n"
            "RESHAPE: OP is supported, but tensor type/shape isn't compatible.\n"
            "3 operations will run on the GPU, and the remaining 2 operations will run on the CPU.\n"
            "ERROR: Failed to apply delegate.\n"
        )
        assert explain_refusal("it failed", log) == (
            "the GPU delegate refuses ARG_MAX, RESHAPE (its type or shape)",
            ("ARG_MAX: Not supported op ARG_MAX", "RESHAPE: OP is supported, but tensor type/shape isn't compatible."),
        )

    def test_an_unresolved_custom_op_is_named(self) -> None:
        log = "ERROR: Encountered unresolved custom op: MyOwnOp.\nSee instructions: https://example.com\n"
        assert explain_refusal("x", log) == (
            "the runtime has no custom op 'MyOwnOp'",
            ("CUSTOM: the runtime has no custom op 'MyOwnOp'",),
        )

    def test_the_last_error_is_added_unless_it_is_said_already(self) -> None:
        assert explain_refusal("failed", "ERROR: [a.cc:1] noise\nERROR: out of memory\n") == (
            "failed (out of memory)",
            (),
        )
        assert explain_refusal("failed: out of memory", "ERROR: out of memory\n") == ("failed: out of memory", ())
        assert explain_refusal("failed", "INFO: fine\n") == ("failed", ())

    def test_residency_is_the_last_one_told(self) -> None:
        line = "INFO: Replacing {} out of {} node(s) with delegate ({}) node, yielding {} partitions for subgraph 0.\n"
        log = line.format(1, 2, "TfLiteXNNPackDelegate", 3) + line.format(328, 330, "LITERT_CL", 2)
        assert residency_of(log, False) == Residency(False, 328, 330, 2)
        assert residency_of("nothing of it", True) == Residency(True)

    def test_the_adapter_is_named_with_its_kind(self) -> None:
        line = "INFO: Selected adapter: {}, arch=x, backend=Vulkan, adapterType={}\n"
        assert adapter_of(line.format("llvmpipe (LLVM 15)", "CPU")) == "llvmpipe (LLVM 15), Vulkan, software"
        assert adapter_of(line.format("NVIDIA H200", "DiscreteGPU")) == "NVIDIA H200, Vulkan, hardware"
        assert adapter_of("") == ""

    @pytest.mark.parametrize(
        ("version", "driver"),
        [
            ("OpenGL ES 3.2 v1.r44p1-01eac0.9f1a", ", driver v1.r44p1-01eac0.9f1a"),
            ("OpenGL ES 3.2 V@0615.77 (GIT@b0)", ", driver V@0615.77 (GIT@b0)"),
            ("OpenGL ES 3.2", ""),
            (None, ""),
        ],
    )
    def test_a_phone_s_gpu_is_named_with_what_computed_and_its_driver(self, version: str | None, driver: str) -> None:
        log = "INFO: Replacing 2 out of 2 node(s) with delegate (LITERT_CL) node, yielding 1 partitions for s.\n"
        hello = {"gl_renderer": "Mali-G715", "gl_version": version}
        assert phone_gpu(hello, log) == f"Mali-G715, OpenCL{driver}"
        assert phone_gpu(hello, log.replace("LITERT_CL", "LITERT_OPENGL")) == f"Mali-G715, OpenGL{driver}"
        assert phone_gpu(hello, "") == ""
        assert phone_gpu({}, log) == "OpenCL"
        angle = {"gl_renderer": "ANGLE (ARM, Vulkan 1.3)", "gl_version": "OpenGL ES 3.2 (ANGLE 2.1.1)"}
        assert phone_gpu(angle, log) == "ANGLE (ARM, Vulkan 1.3), OpenCL"

    def test_of_what_a_phone_says_a_name_s_length_is_believed(self) -> None:
        log = "INFO: Replacing 1 out of 1 node(s) with delegate (LITERT_CL) node, yielding 1 partitions for s.\n"
        said = phone_gpu({"gl_renderer": "x" * 5000, "gl_version": "OpenGL ES 3.2 " + "y" * 5000}, log)
        assert len(said) < 2 * FACT_LIMIT + 50
