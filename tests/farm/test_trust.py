"""Who may take part: whoever has a certificate of the farm's own authority, and nobody else."""

from __future__ import annotations

import json
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from cryptography import x509

from harness.core.errors import UsageError
from harness.farm.tls import MOST_NAME, make_certificates, security
from tests.cli.conftest import environment
from tests.farm.conftest import SimulatedFarm


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    (made,) = make_certificates(tmp_path / "trust", ["lab1"])
    files = [path for path in (tmp_path / "trust").rglob("*") if path.is_file()]
    assert len(files) == 5 and made == tmp_path / "trust" / "lab1"
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_node_that_comes_later_has_the_same_authority(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["one"])
    before = (tmp_path / "ca.pem").read_bytes()
    make_certificates(tmp_path, ["two"])
    assert (tmp_path / "one/ca.pem").read_bytes() == (tmp_path / "two/ca.pem").read_bytes() == before
    for name in ("one", "two"):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / name / "ca.pem"))
        context.load_cert_chain(tmp_path / name / "cert.pem", tmp_path / name / "key.pem")
    with pytest.raises(UsageError, match="two is there already"):
        make_certificates(tmp_path, ["two"])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            "../up",
            "a/b",
            "/etc",
            "a\\b",
            "-x",
            "--help",
            ".hidden",
            "a..b",
            "a.",
            "a-",
            "a b",
            " a",
            "ä",
        ),
        *(
            "a\n",
            "a\x00b",
            "\x1b[31m",
            "a\u202eb",
            "a:b",
            "1.2.3.4:8786",
            "fe80::1%eth0",
            "[::1]",
            "ca.pem",
            "CA-KEY.PEM",
        ),
        "a" * (MOST_NAME + 1),
    ],
)
def test_what_is_no_name_of_a_node_is_one_sentence_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as raised:
        make_certificates(tmp_path / "trust", ["lab1", name])
    assert repr(name)[1:60].rstrip("'") in str(raised.value) and "Give a host name" in str(raised.value)
    assert str(raised.value).isprintable()
    assert not (tmp_path / "trust").exists()


def test_the_command_says_so_with_the_code_of_misuse(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "farm", "certificates", str(tmp_path / "trust"), "--json"]
    words = ["--node", "lab1", "--node", "../up\x1b[31m"]
    done = subprocess.run(
        [*command, *words], capture_output=True, text=True, timeout=90, env=environment(), check=False
    )
    assert done.returncode == 2, done
    assert json.loads(done.stdout)["error"].startswith("'../up\\x1b[31m' is no name of a node. Give a host name")
    assert "Traceback" not in done.stderr and "\x1b[31m" not in done.stderr
    assert not (tmp_path / "trust").exists()


def test_a_node_is_a_host_name_or_an_address(tmp_path: Path) -> None:
    """What a peer that looks at names would compare is in the certificate, as the kind of name that it is."""
    names, addresses = ["lab1", "lab_2.example.org", "a" * MOST_NAME], ["10.0.0.7", "fd00::7"]
    for made in make_certificates(tmp_path, [*names, *addresses]):
        certificate = x509.load_pem_x509_certificate((made / "cert.pem").read_bytes())
        told = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [*told.get_values_for_type(x509.DNSName), *map(str, told.get_values_for_type(x509.IPAddress))]
        assert found == [made.name]
        assert isinstance(next(iter(told)), x509.IPAddress if made.name in addresses else x509.DNSName)


def test_without_certificates_nothing_starts_by_itself(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No certificates are named"):
        security(None)
    assert security(None, without=True) is None
    with pytest.raises(UsageError, match=r"has no ca\.pem"):
        security(tmp_path)


def status(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "farm", "status", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment(), check=False)


@pytest.mark.slow
def test_a_peer_without_a_certificate_of_the_farm_is_refused(farm: SimulatedFarm) -> None:
    make_certificates(farm.folder / "trust", ["all"])
    make_certificates(farm.folder / "others", ["all"])
    farm.certificates = farm.folder / "trust" / "all"
    farm.schedule()
    (serial,) = farm.host("one", phones=1)
    code, told = farm.run(farm.matrix(devices=[serial], repetitions=2))
    assert (code, told["counts"]) == (0, {"done": 2})
    stranger = status(farm.address, "--certificates", str(farm.folder / "others/all"))
    plain = status(farm.address.replace("tls:", "tcp:"), "--no-tls")
    friend = status(farm.address, "--certificates", str(farm.certificates))
    assert [done.returncode for done in (stranger, plain, friend)] == [3, 3, 0]
    assert all("is not reached" in done.stderr and "Traceback" not in done.stderr for done in (stranger, plain))
    assert serial in friend.stdout
    # A host that is a stranger gets no jobs: the scheduler does not know it.
    farm.certificates = farm.folder / "others" / "all"
    farm.host("two", phones=1)
    farm.certificates = farm.folder / "trust" / "all"
    farm.wait(lambda: "twop0 is here" in (farm.folder / "two.out").read_text(), "host that tries")
    code, told = farm.run(farm.matrix(devices=["twop0"]), "--absent-after", "15", "--out", str(farm.folder / "out2"))
    assert (code, told["counts"]) == (3, {"absent": 1})
