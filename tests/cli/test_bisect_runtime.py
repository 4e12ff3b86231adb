"""`harness bisect-runtime`: real releases where they are slow, a scripted index and devices elsewhere."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from device_tests.corpus import broadcast_add_8593, healthy_mlp, rank3_pad_9272
from harness.api import bisect_runtime
from harness.api.bisect_runtime import bisect_runtime_command
from harness.api.compare import compare_command
from harness.api.session import ModelRequest
from harness.core.errors import DeviceDied, DeviceError, DeviceSilent, UsageError
from harness.core.job import Crashed, Options
from harness.core.progress import SILENT
from harness.core.run_folder import read_run
from harness.devices.host import releases
from harness.devices.host.environments import release_environment
from harness.graph.model import Model
from tests.cli.conftest import Cli
from tests.localize.broken import Deadly

LISTED = ("2.1.3", "2.1.5", "2.2.0", "2.3.0")


def saved(tmp_path: Path, model: Model) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(model.to_bytes())
    return path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An index of four releases, each of which runs in this environment; those named here cannot be had."""
    refused: dict[str, str] = {}

    def environment(release: str, progress: Any = None) -> str:
        if release in refused:
            raise DeviceError(refused[release])
        return sys.executable

    monkeypatch.setattr(releases, "available_releases", lambda: LISTED)
    monkeypatch.setattr("harness.devices.registry.release_environment", environment)
    monkeypatch.setattr("harness.devices.host.device.release_environment", environment)
    return refused


class TestIndex:
    def pip(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setattr(releases.sys, "executable", str(python))  # type: ignore[attr-defined]

    def test_releases_come_oldest_first_as_versions_not_as_words(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        said = "ai-edge-litert (2.10.0)\nAvailable versions: 2.10.0, 2.9.1, 2.1.3\n  INSTALLED: 2.9.1"
        self.pip(monkeypatch, tmp_path, f"echo '{said}'")
        assert releases.available_releases() == ("2.1.3", "2.9.1", "2.10.0")

    def test_without_a_connection_one_sentence_says_so(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.pip(monkeypatch, tmp_path, "echo 'WARNING: retrying' >&2; echo 'ERROR: No route to host' >&2; exit 1")
        with pytest.raises(DeviceError) as caught:
            releases.available_releases()
        assert caught.value.message == "The releases of ai-edge-litert cannot be listed (No route to host)."
        assert "host@RELEASE" in caught.value.next_step

    def test_a_pip_that_never_answers_is_given_up(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.pip(monkeypatch, tmp_path, "exec sleep 60")
        monkeypatch.setattr(releases, "LIST_SECONDS", 0.2)
        with pytest.raises(DeviceError, match=r"no answer within 0\.2 s"):
            releases.available_releases()

    def test_a_pip_that_lists_without_an_end_is_given_up(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.pip(monkeypatch, tmp_path, "exec yes 'Available versions: 2.1.3'")
        with pytest.raises(DeviceError, match=r"\(an answer over 4 MiB\)"):
            releases.available_releases()

    @pytest.mark.parametrize(
        ("first", "last", "sentence"),
        [
            ("2.0", None, "'2.0' is not a release of ai-edge-litert for this Python. There are 2.1.3, 2.1.5, 2.2.0"),
            ("2.1.3", "9.9.9", "'9.9.9' is not a release"),
            ("2.2.0", "2.1.3", "2.2.0 is not older than 2.1.3."),
            ("2.2.0", "2.2.0", "2.2.0 is not older than 2.2.0."),
        ],
    )
    def test_ends_that_cannot_be_are_refused(self, first: str, last: str | None, sentence: str) -> None:
        with pytest.raises(UsageError) as caught:
            releases.between(LISTED, first, last)
        assert str(caught.value).startswith(sentence)

    def test_a_part_of_the_line_is_taken_both_ends_included(self) -> None:
        assert releases.between(LISTED, "2.1.5", None) == LISTED[1:]
        assert releases.between(LISTED, "2.1.3", "2.2.0") == LISTED[:3]


@pytest.mark.gpu
def test_a_model_that_is_wrong_on_every_release(tmp_path: Path, scripted: dict[str, str]) -> None:
    model = saved(tmp_path, rank3_pad_9272())
    answer, folder = bisect_runtime_command(ModelRequest(model, out=tmp_path / "out"), "2.1.3", None)
    document = answer.to_json()
    assert (document["status"], document["changes"], document["not_tested"]) == ("fail", [], ["2.1.5"])
    assert [(r["release"], r["state"]) for r in document["releases"]] == [
        ("2.1.3", "wrong"), ("2.2.0", "wrong"), ("2.3.0", "wrong"),
    ]  # fmt: skip
    assert all(Path(r["run"], "report.html").exists() for r in document["releases"])
    record = read_run(folder)
    assert (record["command"], record["status"]) == ("bisect-runtime", "done")
    assert record["result"]["notes"] == answer.bisection.sentences()
    page = (folder / "report.html").read_text("utf-8")
    assert "Wrong on the newest" in page
    assert "Wrong on every release that was tested: 2.1.3, 2.2.0, 2.3.0." in page


def test_a_release_that_cannot_be_had_is_passed_over(tmp_path: Path, scripted: dict[str, str]) -> None:
    scripted["2.2.0"] = "ai-edge-litert 2.2.0 cannot be installed (no wheel)."
    request = ModelRequest(saved(tmp_path, healthy_mlp()), options=Options("cpu"), out=tmp_path / "out")
    answer, _ = bisect_runtime_command(request, "2.1.3", "2.3.0", every=True)
    assert [t.state for t in answer.tested] == ["right", "right", "untestable", "right"]
    assert answer.tested[2].why == "ai-edge-litert 2.2.0 cannot be installed (no wheel)."


def test_a_release_whose_worker_does_not_start_says_nothing_of_the_model(
    tmp_path: Path, scripted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "harness.devices.host.device.release_environment",
        lambda release, progress=None: "/bin/false" if release == "2.2.0" else sys.executable,
    )
    request = ModelRequest(saved(tmp_path, healthy_mlp()), options=Options("cpu"), out=tmp_path / "out")
    answer, _ = bisect_runtime_command(request, "2.1.5", "2.3.0", every=True)
    assert [t.state for t in answer.tested] == ["right", "unknown", "right"]
    assert "'host@2.2.0' did not start" in answer.tested[1].why
    assert answer.bisection.changes == ()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            DeviceSilent("host@2.2.0 gave no answer within 9 s while running the model and was killed."),
            "no answer within 9 s",
        ),
        (DeviceError("host@2.2.0 was lost while running the model: it closed the connection."), "was lost"),
    ],
)
def test_a_release_that_gave_no_answer_is_not_told_to_have_broken_the_model(
    tmp_path: Path, scripted: dict[str, str], monkeypatch: pytest.MonkeyPatch, error: DeviceError, told: str
) -> None:

    def compare(request: ModelRequest, progress: Any) -> Any:
        if request.device == "host@2.2.0":
            raise error
        return compare_command(request, progress)

    monkeypatch.setattr(bisect_runtime, "compare_command", compare)
    request = ModelRequest(saved(tmp_path, healthy_mlp()), options=Options("cpu"), out=tmp_path / "out")
    answer, _ = bisect_runtime_command(request, "2.1.5", "2.3.0", every=True)
    assert [t.state for t in answer.tested] == ["right", "unknown", "right"]
    assert answer.bisection.changes == ()
    (first, second) = answer.bisection.sentences()
    assert first == "Right on every release that was tested: 2.1.5, 2.3.0."
    assert second.startswith("Not known of 2.2.0: host@2.2.0 ")
    assert told in second


def test_a_release_that_refuses_the_model_is_told_apart_from_a_wrong_one(
    tmp_path: Path, scripted: dict[str, str]
) -> None:
    request = ModelRequest(saved(tmp_path, healthy_mlp()), options=Options("npu"), out=tmp_path / "out")
    answer, _ = bisect_runtime_command(request, "2.2.0", "2.3.0")
    assert [t.state for t in answer.tested] == ["fails", "fails"]
    assert "this device has no accelerator 'npu'" in answer.tested[0].why
    assert answer.bisection.sentences() == ["Fails on every release that was tested: 2.2.0, 2.3.0."]


def test_only_the_host_has_several_releases(tmp_path: Path, cli: Cli) -> None:
    said = cli("bisect-runtime", saved(tmp_path, healthy_mlp()), "--device", "host@2.1.5")
    assert said.code == 2
    assert said.sentence == "'host@2.1.5' has one runtime. Use --device host or web, which can have any release."


def test_the_installed_release_needs_no_environment_of_its_own() -> None:
    import importlib.metadata

    assert release_environment(importlib.metadata.version("ai-edge-litert")) == sys.executable


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.timeout(1800)
def test_the_corpus_on_real_releases(tmp_path: Path, cli: Cli) -> None:
    """google-ai-edge/LiteRT #8593 was mended in 2.1.6; #9272 never was."""
    mended = saved(tmp_path, broadcast_add_8593())
    said = cli("bisect-runtime", mended, "--from", "2.1.3", "--to", "2.3.0", "--json", seconds=900)
    (change,) = json.loads(said.out)["changes"]
    assert (said.code, change["was"], change["first"], change["became"]) == (0, "wrong", "2.1.6", "right")
    never = saved(tmp_path, rank3_pad_9272())
    said = cli("bisect-runtime", never, "--from", "2.1.3", "--to", "2.3.0", "--all", seconds=900)
    assert said.code == 1
    assert said.out.splitlines()[-1].startswith("Wrong on every release that was tested: 2.1.3, 2.1.4, 2.1.5,")


def nullcontext_of(device: Deadly, name: str) -> AbstractContextManager[Deadly]:
    return nullcontext(device)


def test_a_release_that_survives_nothing_is_not_one_that_broke_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*arguments: object) -> None:
        raise DeviceDied("host@2.2.0 crashed while running the model: SIGABRT.")

    monkeypatch.setattr(bisect_runtime, "compare_command", dies)
    monkeypatch.setattr(bisect_runtime, "check_device", lambda *arguments: None)
    crashed = Crashed("SIGABRT", "SIGABRT")
    devices = {"untestable": Deadly(lambda model: True, crashed), "fails": Deadly(lambda model: False, crashed)}
    for state, device in devices.items():
        monkeypatch.setattr(bisect_runtime, "open_device", partial(nullcontext_of, device))
        tested = bisect_runtime._test("2.2.0", ModelRequest(saved(tmp_path, healthy_mlp()), out=tmp_path), SILENT)
        assert tested.state == state
