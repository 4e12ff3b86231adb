"""A whole benchmark: folders, tries, comparisons, exit codes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.bench import exit_code
from harness.core.errors import DeviceError, UsageError
from harness.core.job import Crashed
from harness.core.run_folder import list_runs, read_run
from harness.devices.host.device import HostDevice
from harness.graph.model import Model
from harness.latency.bench import BenchRequest, bench, start_folder
from harness.latency.compare import read_baseline
from harness.latency.matrix import Choices, Loaded, subjects
from harness.latency.measure import Plan, Subject
from harness.latency.record import BenchResult
from tests.arrays import f32
from tests.cli.conftest import Cli, cli
from tests.latency.conftest import Saying, Script, write_model

__all__ = ["cli"]  # a fixture

PLAN = Plan(samples=60, seconds=0.0, rounds=24, replications=2)
Subjects = Callable[..., Subject]


@pytest.fixture
def trial(subject: Subjects, tmp_path: Path) -> BenchRequest:
    return BenchRequest((subject(),), PLAN, tmp_path / "results", accuracy=False, cool_down=0.0)


class TestFolders:
    def test_each_cell_has_one_that_reads_back(self, trial: BenchRequest, subject: Subjects, script: Script) -> None:
        ((one, two),) = bench(replace(trial, subjects=(subject("a"), subject("b"))), script.open)
        for made, name in ((one, "a"), (two, "b")):
            record = read_run(made.folder)
            assert (record["command"], record["status"]) == ("bench", "done")
            assert record["device"]["name"] == name
            assert BenchResult.from_json(record["result"]) == made.result
            assert made.result.bench_id == one.folder.name
            with (made.folder / "samples.csv").open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert sum(row["phase"] == "steady" for row in rows) == made.result.latency["total"].count
        assert two.result.against[0].run == one.folder.name

    def test_by_op_the_runtimes_profiler_is_asked_too_and_kept(self, trial: BenchRequest, script: Script) -> None:
        ((made,),) = bench(trial, script.open, per_op=True)
        assert made.result.per_op
        assert read_run(made.folder)["result"]["profile"] == {
            "reason": "The runtime's profiler is read on the host's CPU only."
        }
        assert read_baseline(made.folder).result == made.result

    def test_a_failure_leaves_its_sentence_and_its_samples(self, trial: BenchRequest, script: Script) -> None:
        script.say = lambda process, job: Saying(outcome=Crashed("gone") if job == 6 else None)
        with pytest.raises(DeviceError):
            bench(trial, script.open)
        (folder,) = list_runs(trial.out)
        record = read_run(folder)
        assert (record["status"], record["error"][:25]) == ("failed", "here crashed while timing")
        assert (folder / "samples.csv").read_text().count("\n") > 10

    def test_the_timed_outputs_are_judged(self, trial: BenchRequest, subject: Subjects, script: Script) -> None:
        wrong = bench(replace(trial, accuracy=True), script.open)  # a scripted device's outputs are zeros
        right = bench(replace(trial, accuracy=True, subjects=(subject("host"),)), HostDevice)
        assert wrong[0][0].result.right is False
        assert right[0][0].result.right is True
        assert exit_code(wrong[0], set()) == 1


class TestTries:
    def test_an_invalid_run_is_kept_and_measured_again(self, trial: BenchRequest, script: Script) -> None:
        script.say = lambda process, job: Saying(thermal="severe" if process < 4 else "none")
        tries = bench(replace(trial, tries=5), script.open)
        assert [[one.result.valid for one in cells] for cells in tries] == [[False], [False], [True]]
        assert [cells[0].result.attempt for cells in tries] == [1, 2, 3]
        assert len(list_runs(trial.out)) == 3
        assert exit_code(tries[-1], set()) == 0

    def test_it_gives_up_after_as_many_as_were_said(self, trial: BenchRequest, script: Script) -> None:
        script.say = lambda process, job: Saying(thermal="severe")
        tries = bench(replace(trial, tries=2), script.open)
        assert len(tries) == 2
        assert exit_code(tries[-1], set()) == 4


def scaled(factor: float) -> Script:
    """Times that repeat every nine iterations, within 4 %."""
    return Script(lambda process, job: Saying(lambda n: factor * 1e6 * (1 + n % 9 / 200)))


class TestAgainst:
    @pytest.mark.parametrize(
        ("factor", "verdict", "code"), [(1.0, "same", 0), (1.02, "same", 0), (1.1, "slower", 1), (0.9, "faster", 0)]
    )
    def test_the_verdict_and_its_exit_code(self, trial: BenchRequest, factor: float, verdict: str, code: int) -> None:
        ((old,),) = bench(trial, scaled(1.0).open)
        ((new,),) = bench(replace(trial, against=(read_baseline(old.folder),)), scaled(factor).open)
        (found,) = new.result.against
        assert (found.verdict, found.run) == (verdict, old.folder.name)
        assert found.ratio is not None
        assert found.ratio.value == pytest.approx(factor, rel=0.01)
        assert exit_code((new,), {old.folder.name}) == code

    def test_another_model_or_other_inputs_are_incomparable(self, trial: BenchRequest, subject: Subjects) -> None:
        ((old,),) = bench(trial, scaled(1.0).open)
        baseline = read_baseline(old.folder)
        plain = subject()
        inputs = replace(plain, inputs={name: values + f32(1) for name, values in plain.inputs.items()})
        for changed, why in ((subject(count=2), "Another model"), (inputs, "Other inputs")):
            ((new,),) = bench(replace(trial, subjects=(changed,), against=(baseline,)), scaled(1.0).open)
            (found,) = new.result.against
            assert (found.verdict, found.ratio) == ("incomparable", None)
            assert found.why.startswith(why)
            assert exit_code((new,), {old.folder.name}) == 4

    def test_an_invalid_run_is_compared_with_nothing(self, trial: BenchRequest, script: Script) -> None:
        script.say = lambda process, job: Saying(thermal="severe")
        ((old,),) = bench(trial, script.open)
        ((new,),) = bench(replace(trial, against=(read_baseline(old.folder),)), scaled(1.0).open)
        (found,) = new.result.against
        assert (found.verdict, found.why) == ("cannot tell", "The other run is invalid (throttled).")
        assert exit_code((new,), {old.folder.name}) == 4

    def test_what_changed_besides_is_told(self, trial: BenchRequest) -> None:
        ((old,),) = bench(trial, scaled(1.0).open)
        newer = Script(lambda process, job: replace(scaled(1.0).say(process, job), runtime="2.4.0"))
        ((new,),) = bench(replace(trial, against=(read_baseline(old.folder),)), newer.open)
        assert "runtime 2.3.0 → 2.4.0" in new.result.against[0].why

    def test_a_folder_that_is_no_benchmark(self, trial: BenchRequest, script: Script, tmp_path: Path) -> None:
        ((old,),) = bench(trial, script.open)
        path = old.folder / "run.json"
        path.write_text(path.read_text().replace('"bench"', '"compare"'))
        with pytest.raises(UsageError, match="is a run of `compare`, and done"):
            read_baseline(old.folder)
        with pytest.raises(UsageError, match="is no run folder"):
            read_baseline(tmp_path / "nowhere")


class TestMatrix:
    def cells(self, layers: Callable[[int], Model], **choices: tuple[object, ...]) -> list[str]:
        model = Loaded(Path("m.tflite"), layers(1), {})
        return [f"{s.cell.device} {s.cell.label}" for s in subjects([model], Choices(**choices))]  # type: ignore[arg-type]

    def test_each_choice_goes_where_it_means_something(self, layers: Callable[[int], Model]) -> None:
        assert self.cells(
            layers, accelerators=("cpu", "gpu"), precisions=("default", "fp32"), threads=(1, 2), backends=("default",)
        ) == ["host cpu 1 thread", "host cpu 2 threads", "host gpu", "host gpu fp32"]

    def test_the_cpus_plain_kernels_are_a_back_end(self, layers: Callable[[int], Model]) -> None:
        assert self.cells(layers, accelerators=("cpu",), backends=("default", "plain"), devices=("host", "phone")) == [
            "host cpu", "host cpu plain", "phone cpu", "phone cpu plain",
        ]  # fmt: skip

    def test_a_run_names_the_file_that_its_model_is_of(self, layers: Callable[[int], Model], tmp_path: Path) -> None:
        (subject,) = subjects([Loaded(Path("m.tflite"), layers(1), {}, "f" * 64)], Choices(accelerators=("cpu",)))
        with start_folder("bench", tmp_path, subject, "", 1.0) as folder:
            assert read_run(folder.path)["model"]["file_sha256"] == "f" * 64

    @pytest.mark.parametrize(
        ("choices", "said"),
        [
            ({"accelerators": ("gpu",), "threads": (2,)}, "--threads 2 means nothing for gpu"),
            ({"accelerators": ("cpu",), "precisions": ("fp16",)}, "--accelerator cpu means nothing for cpu"),
            ({"accelerators": ("gpu",), "backends": ("plain",)}, "--accelerator gpu means nothing"),
        ],
    )
    def test_a_choice_that_means_nothing_anywhere_is_refused(
        self, layers: Callable[[int], Model], choices: dict[str, tuple[object, ...]], said: str
    ) -> None:
        with pytest.raises(UsageError, match=said):
            self.cells(layers, **choices)


class TestCommandLine:
    def test_a_benchmark_and_one_against_it(self, cli: Cli, tmp_path: Path, layers: Callable[[int], Model]) -> None:
        model = write_model(tmp_path, layers(2))
        words = ("bench", model, "--accelerator", "cpu", "--samples", 40, "--seconds", 0, "--replications", 1, "--json")
        said = cli(*words)
        (cell,) = said.json["cells"]
        assert said.code == (0 if cell["valid"] else 4)
        assert cell["accurate"] is True
        assert cell["cell"]["accelerator"] == "cpu"
        again = cli(*words, "--against", cell["run"])
        (found,) = again.json["cells"][0]["against"]
        if not cell["valid"]:
            assert (found["verdict"], again.code) == ("cannot tell", 4)
        assert found["run"] == Path(cell["run"]).name

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--against", "nowhere"), "nowhere is no run folder (no run.json)."),
            (("--accelerator", "cpu", "--precision", "fp16"), "--accelerator cpu means nothing for cpu"),
            (("--device", "host@x"), "'x' is not a release of ai-edge-litert."),
        ],
    )
    def test_a_mistake_is_one_sentence(
        self, cli: Cli, tmp_path: Path, layers: Callable[[int], Model], words: tuple[str, ...], said: str
    ) -> None:
        found = cli("bench", write_model(tmp_path, layers(1)), *words)
        assert found.code == 2
        assert found.sentence.startswith(said)
        assert list_runs(tmp_path / "results") == []

    def test_a_person_reads_the_latency_and_whether_it_counts(
        self, cli: Cli, tmp_path: Path, layers: Callable[[int], Model]
    ) -> None:
        words = ("--accelerator", "cpu", "--samples", 20, "--seconds", 0, "--replications", 1, "--no-accuracy")
        said = cli("bench", write_model(tmp_path, layers(1)), *words)
        assert said.out.splitlines()[0].split() == ["cell", "p50", "ms", "[95", "%]", "p90", "p99", "outputs"]
        assert said.out.splitlines()[1].startswith("model host cpu ")
        assert ("invalid" in said.out.splitlines()[1]) == (said.code == 4)

    def test_by_op_a_person_reads_the_profilers_figures_and_what_they_cost(
        self, cli: Cli, tmp_path: Path, layers: Callable[[int], Model]
    ) -> None:
        words = ("--accelerator", "cpu", "--samples", 20, "--seconds", 0, "--replications", 1, "--no-accuracy")
        said = " ".join(cli("bench", write_model(tmp_path, layers(1)), *words, "--per-op").out.split())
        assert "profiled µs p50 [p10, p90] share what" in said
        assert "one delegate node of 2 of the 2 ops, timed as 2 operators of its own, not mapped to ops; run" in said
        assert "without, in turns in one process:" in said
