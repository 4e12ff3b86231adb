"""A matrix file says what is asked, and one sentence what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.farm.job import JobOutcome, JobSpec, StoredFile, command_words, from_text, is_inside, to_text
from harness.farm.matrix import Matrix, device_name, needs, read_matrix
from tests import models
from tests.farm.record import outcome

GOOD = {"models": '["m.tflite"]', "devices": '["host", "pixel8a"]', "commands": '["compare", "bench"]'}


def read(folder: Path, **keys: str) -> Matrix:
    (folder / "m.tflite").write_bytes(models.right().to_bytes())
    (folder / "x.npz").write_bytes(b"inputs")
    for name in ("words.tflite", "n.onnx"):
        (folder / name).write_text("no model, but words")
    text = "".join(f"{key} = {value}\n" for key, value in (GOOD | keys).items() if value)
    (folder / "m.toml").write_text(text)
    return read_matrix(folder / "m.toml", "0" * 32)


def test_it_is_the_product_of_its_lists(tmp_path: Path) -> None:
    matrix = read(tmp_path, precisions='["default", "fp32"]', repetitions="3")
    assert len(matrix.jobs) == 2 * 2 * 2 * 3 and len({job.id for job in matrix.jobs}) == 24
    first = matrix.jobs[0]
    assert (first.device, first.command, first.precision, first.repetition) == ("host", "compare", "default", 1)
    assert matrix.name == "m" and set(matrix.files) == {first.sha256}


def test_a_job_has_the_same_id_as_long_as_the_same_is_asked(tmp_path: Path) -> None:
    before = {job.id for job in read(tmp_path).jobs}
    assert {job.id for job in read(tmp_path, devices='["pixel8a", "host"]').jobs} == before
    assert not before & {job.id for job in read(tmp_path, seed="1").jobs}
    assert not before & {job.id for job in read(tmp_path, models='[{path = "m.tflite", inputs = "x.npz"}]').jobs}


def test_what_means_nothing_is_skipped_with_its_reason(tmp_path: Path) -> None:
    matrix = read(tmp_path, runtimes='["default", "2.1.5"]', commands='["compare"]')
    assert [(job.device, job.runtime) for job in matrix.jobs] == [
        ("host", "default"),
        ("host", "2.1.5"),
        ("pixel8a", "default"),
    ]
    (skipped,) = matrix.skipped
    assert skipped.reason == "the runtime 2.1.5 can be chosen for `host` alone, not for pixel8a"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"models": ""}, "has no models"),
        ({"models": "[]"}, "models has '[]', not a list with something in it"),
        ({"models": "[3]"}, "models has '3', not a path"),
        ({"models": '["none.tflite"]'}, "none.tflite does not exist"),
        ({"models": '[{path = "m.tflite", input = "x"}]'}, 'not a path, or {path = "…", inputs = "…"}'),
        ({"models": '["m.tflite", "m.tflite"]'}, "asks for the same thing twice"),
        ({"devices": '["host", "host"]'}, "devices has 'host', not something that is there once"),
        ({"devices": '["gpu=mali;rm"]'}, "neither a device nor a property"),
        ({"devices": '["colour=red"]'}, "neither a device nor a property"),
        ({"devices": '["host,pixel8a"]'}, "names two devices at once"),
        ({"devices": '["host@2.1.5"]'}, "devices has 'host@2.1.5'"),
        ({"commands": '["compute"]'}, "commands has 'compute', not one of compare, localize, bench"),
        ({"precisions": '["fp8"]'}, "precisions has 'fp8', not one of"),
        ({"runtimes": '["../x"]'}, "runtimes has '../x', not `default`, `nightly` or a release"),
        ({"repetitions": "0"}, "repetitions has '0', not a whole number from 1 to 1000"),
        ({"repetitions": "true"}, "repetitions has 'True', not a whole number"),
        ({"quick": "1"}, "quick has '1', not true or false"),
        ({"timeout": "nan"}, "timeout has 'nan', not a number"),
        ({"accelerator": '"tpu"'}, "accelerator has 'tpu', not one of cpu, gpu, npu"),
        ({"name": '"../up"'}, "name has '../up', not a name"),
        ({"colour": '"red"'}, "has a key 'colour', which is none"),
        ({"models": "["}, "cannot be read"),
        ({"models": "[" * 5000}, "its brackets are too deep"),
        ({"models": '["m\\u0000.tflite"]'}, "cannot be read"),
        ({"models": '["words.tflite"]'}, "words.tflite cannot be read as a .tflite (no TFL3 identifier"),
        ({"models": '["n.onnx"]'}, "n.onnx is an ONNX model, not a .tflite"),
        ({"devices": '["web"]'}, "the hosts of a farm offer phones"),
        ({"repetitions": '"2"'}, "repetitions has '2', not a whole number from 1 to 1000, without quotes"),
        ({"timeout": "1" + "0" * 400}, "timeout has "),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, keys: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(tmp_path, **keys)
    assert sentence in raised.value.message and raised.value.next_step


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        ("host", ("kind:host",)),
        ("planted:mali", ("kind:host",)),
        ("pixel8a", ("model:pixel8a",)),
        ("R5CT1", ("serial:R5CT1",)),
        ("127.0.0.1:5555", ("serial:127.0.0.1:5555",)),
        ("gpu=mali,host=lab1", ("gpu:mali", "host:lab1")),
        ("host,host=lab1", ("host:lab1", "kind:host")),
    ],
)
def test_a_device_is_what_a_worker_must_offer(device: str, wanted: tuple[str, ...]) -> None:
    assert needs(device) == wanted


def test_the_command_is_the_harness_s_own(tmp_path: Path) -> None:
    spec = next(
        job for job in read(tmp_path, cool_down="30").jobs if job.command == "bench" and job.device == "pixel8a"
    )
    words = command_words(spec, device_name(spec.device, spec.runtime, "SERIAL"), "m.tflite", "x.npz", "out")
    assert words[:4] == ["bench", "m.tflite", "--device", "SERIAL"]
    assert words[-4:] == ["--inputs", "x.npz", "--cool-down", "30"]
    quick = [job for job in read(tmp_path, quick="true").jobs if job.command == "bench"]
    assert all("--quick" in command_words(job, "host", "m.tflite", "", "out") for job in quick)
    assert not {job.id for job in quick} & {job.id for job in read(tmp_path).jobs}
    other = next(job for job in read(tmp_path, runtimes='["2.1.5"]').jobs)
    assert device_name(other.device, other.runtime, "host") == "host@2.1.5"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../run.json",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "/".join("abcdefg"),
        "x" * 501,
    ],
)
def test_a_name_that_leads_out_of_the_run_folder_is_refused(tmp_path: Path, name: str) -> None:
    assert not is_inside(name)
    spec = read(tmp_path).jobs[0]
    with pytest.raises(UsageError, match="is no file of a run folder"):
        outcome(spec, files=(StoredFile(name, "0" * 64, 1),)).check()


@pytest.mark.parametrize("run", ["../x", "/x", "a/b", ".hidden", "x" * 201])
def test_a_run_folder_with_such_a_name_is_refused(tmp_path: Path, run: str) -> None:
    with pytest.raises(UsageError, match="is no name of a run folder"):
        outcome(read(tmp_path).jobs[0], run=run).check()


def test_a_run_folder_is_bounded(tmp_path: Path) -> None:
    spec = read(tmp_path).jobs[0]
    with pytest.raises(UsageError, match="20,000 files or 2 GiB"):
        outcome(spec, files=(StoredFile("a", "0" * 64, 2 << 30), StoredFile("b", "0" * 64, 1))).check()


@pytest.mark.parametrize("field", ["id", "matrix", "sha256", "model", "inputs"])
def test_a_job_whose_names_are_paths_is_refused(tmp_path: Path, field: str) -> None:
    spec = read(tmp_path).jobs[0]
    text = to_text(spec)
    assert from_text(JobSpec, text).check() == spec
    from dataclasses import replace

    wrong: JobSpec = replace(spec, **{field: "../../../etc/passwd"})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is no name that a job of a farm has"):
        from_text(JobSpec, to_text(wrong)).check()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"id": 3}', "[" * 500])
def test_what_is_no_outcome_is_a_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="What came over the farm is no JobOutcome"):
        from_text(JobOutcome, text)
