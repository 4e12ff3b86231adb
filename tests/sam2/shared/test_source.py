from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from harness.core.errors import UsageError
from harness.sam2.shared import source
from harness.sam2.shared.source import PUBLISHED, resolve


@pytest.fixture(autouse=True)
def empty_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def refuse_to_download(*_: object, **options: object) -> str:
    if options.get("local_files_only"):
        raise FileNotFoundError("nothing cached")
    raise AssertionError("this must not reach for the network")


def model_folder(folder: Path, model_type: str = "sam2", weights: bytes = b"\x00" * 16) -> Path:
    """A folder that looks like a saved model from outside; nothing here reads its weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_random_weights_are_named_by_their_seed() -> None:
    found = resolve("random", seed=5)
    assert found.is_random
    assert found.provenance == "random weights, seed 5 (realistic scale)"
    assert found.key == "random-5"


@pytest.mark.parametrize("model_type", ["sam2", "sam2_video"])
def test_a_folder_of_sam2_weights_is_taken(tmp_path: Path, model_type: str) -> None:
    folder = model_folder(tmp_path / "mine", model_type)
    found = resolve(str(folder))
    assert found.folder == folder
    assert found.provenance == f"folder {folder}"
    assert not found.is_random


def test_a_folder_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    first = resolve(str(model_folder(tmp_path / "a")))
    same = resolve(str(model_folder(tmp_path / "b")))
    other = resolve(str(model_folder(tmp_path / "c", weights=b"\x00" * 15 + b"\x01")))
    assert first.key == same.key
    assert first.key != other.key


def test_a_folder_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "other", "vit")
    with pytest.raises(UsageError, match=r"other' holds a model of type 'vit', not SAM 2\.") as caught:
        resolve(str(folder))
    assert PUBLISHED in caught.value.next_step


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it has no config\.json"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[1, 2]", '"sam2"'])
def test_a_broken_configuration_is_refused(tmp_path: Path, content: str) -> None:
    folder = model_folder(tmp_path / "broken")
    (folder / "config.json").write_text(content)
    with pytest.raises(UsageError, match="is not a model's configuration"):
        resolve(str(folder))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "light")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="has no weights"):
        resolve(str(folder))


def test_a_pipe_in_the_place_of_weights_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes into it."""
    folder = model_folder(tmp_path / "piped")
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    script = f"from harness.sam2.shared.source import resolve; resolve({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "has no weights: no .safetensors file." in done.stderr


def test_a_configuration_without_an_end_is_not_read(tmp_path: Path) -> None:
    """A hole of 6 GB, which takes no room on a disk and would in memory."""
    folder = model_folder(tmp_path / "vast")
    os.truncate(folder / "config.json", 6 << 30)
    with pytest.raises(UsageError, match=r"is not a model's configuration \(it has 6,442,450,944 bytes\)"):
        resolve(str(folder))


def test_weights_that_are_links_are_taken_as_the_hubs_own_cache_has_them(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "linked")
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    assert resolve(str(folder)).key == resolve(str(model_folder(tmp_path / "plain"))).key


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "nowhere"])
def test_a_folder_that_does_not_exist_is_refused_without_asking_the_hub(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse_to_download)
    with pytest.raises(UsageError, match=f"The folder '{path}' does not exist"):
        resolve(path)


@pytest.mark.usefixtures("offline")
def test_offline_without_a_copy_random_weights_stand_in_and_say_so() -> None:
    found = resolve(None, seed=3)
    assert found.is_random
    assert found.provenance == "random weights, seed 3 (realistic scale)"


@pytest.mark.usefixtures("offline")
def test_a_repository_asked_for_by_name_is_never_replaced_by_random_weights() -> None:
    with pytest.raises(UsageError, match=r"'someone/sam2'.* is not cached while HF_HUB_OFFLINE is set"):
        resolve("someone/sam2")


@pytest.mark.usefixtures("offline")
def test_a_cached_copy_of_the_published_checkpoint_is_used(empty_hub_cache: Path) -> None:
    repository = empty_hub_cache / "models--facebook--sam2.1-hiera-tiny"
    snapshot = model_folder(repository / "snapshots" / ("a" * 40), "sam2_video")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    found = resolve(None)
    assert found.folder == snapshot
    assert found.provenance == "facebook/sam2.1-hiera-tiny from Hugging Face"


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_never_answers_costs_a_few_seconds_at_most(
    silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", silent_server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(source, "_PROBE_SECONDS", 0.5)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse_to_download)
    start = time.monotonic()
    found = resolve(None)
    assert found.is_random
    assert time.monotonic() - start < 3
    assert source._PROBE_SECONDS == 0.5


def test_a_hub_that_answers_is_asked_for_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = model_folder(tmp_path / "fetched")

    def download(repository: str, local_files_only: bool = False, **_: object) -> str:
        if local_files_only:
            raise FileNotFoundError("nothing cached")
        assert repository == PUBLISHED
        return str(fetched)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(source, "does_answer", lambda address, seconds: True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = resolve(None)
    assert found.folder == fetched
    assert not found.is_random


def test_a_download_that_fails_tells_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, local_files_only: bool = False, **_: object) -> str:
        raise FileNotFoundError("nothing cached") if local_files_only else RuntimeError("401 for\nthat name")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(source, "does_answer", lambda address, seconds: True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UsageError, match=r"cannot be fetched \(401 for\)"):
        resolve("someone/sam2")
