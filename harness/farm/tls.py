"""Certificates for a farm: an authority of its own, and one for each node, for both sides of every connection."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.core.errors import UsageError, install_extra
from harness.core.private import make_folder, owner_only
from harness.core.run_folder import writing

DAYS = 825
AUTHORITY, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
AUTHORITY_KEY = "ca-key.pem"
MOST_NAME = 64
"""Characters of a node's name: X.509 has no room for more in a certificate's common name."""
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*")


def require_packages() -> None:
    """Raises UsageError: what the farm runs on is not installed."""
    try:
        import cryptography  # noqa: F401
        import distributed  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"The farm needs {error.name}, which is not installed.", f"{install_extra('farm')}") from None


def node_name(text: str) -> str:
    """A node's name, which its folder has too: a host name or an IP address of at most `MOST_NAME` characters.

    Raises:
        UsageError: it is something else, or what a file of the authority is called.
    """
    shown = repr(text[:80])
    step = "Give a host name such as lab1 or lab1.example.org, or an IP address, with --node."
    if len(text) > MOST_NAME:
        raise UsageError(f"{shown} is longer than the {MOST_NAME} characters that a node's name may have.", step)
    if not _HOST_NAME.fullmatch(text) and _address(text) is None:
        raise UsageError(f"{shown} is no name of a node.", step)
    if text.lower() in (AUTHORITY, AUTHORITY_KEY):
        raise UsageError(f"{shown} is what a file of the authority is called.", step)
    return text


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else found  # a zone is a name of this machine's alone


def make_certificates(folder: Path, nodes: Sequence[str], days: int = DAYS) -> list[Path]:
    """Make an authority in `folder`, or take the one that is there, and for each node a folder with its certificate,
    its key and the authority's certificate. Keys are readable by their owner alone.

    Raises:
        UsageError: as :func:`node_name`, or a node has a folder already. StorageError: it cannot be written.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.now(UTC)
    pem = serialization.Encoding.PEM

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def base(subject: str, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(named(subject)).issuer_name(issuer).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        return builder.not_valid_after(now + timedelta(days=days))

    if folder.is_file():
        raise UsageError(f"{folder} is a file.", "Name a folder for the certificates.")
    for node in nodes:
        node_name(node)
    taken = [node for node in nodes if os.path.lexists(folder / node)]
    if taken:
        raise UsageError(f"{folder / taken[0]} is there already.", "Remove it for a new one, or name another node.")
    with owner_only():
        if (folder / AUTHORITY_KEY).exists():
            try:
                authority_key: Any = serialization.load_pem_private_key((folder / AUTHORITY_KEY).read_bytes(), None)
                authority = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
            except (OSError, ValueError, TypeError) as error:
                raise UsageError(f"The authority in {folder} cannot be read ({error}).", "Name a new folder.") from None
        else:
            authority_key = ec.generate_private_key(ec.SECP256R1())
            authority = (
                base("harness farm", named("harness farm"), authority_key.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
                .add_extension(_usage(x509, signs=True), critical=True)
                .sign(authority_key, hashes.SHA256())
            )
            _write(folder / AUTHORITY_KEY, _private(authority_key, serialization))
            _write(folder / AUTHORITY, authority.public_bytes(pem))
        made = []
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        for node in nodes:
            key = ec.generate_private_key(ec.SECP256R1())
            address = _address(node)
            called = x509.DNSName(node) if address is None else x509.IPAddress(address)
            certificate = (
                base(node, authority.subject, key.public_key())
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(x509.SubjectAlternativeName([called]), critical=False)
                .add_extension(_usage(x509, signs=False), critical=True)
                .add_extension(uses, critical=False)
                .add_extension(issuer, critical=False)
                .sign(authority_key, hashes.SHA256())
            )
            _write(folder / node / KEY, _private(key, serialization))
            _write(folder / node / CERTIFICATE, certificate.public_bytes(pem))
            _write(folder / node / AUTHORITY, authority.public_bytes(pem))
            made.append(folder / node)
    return made


def security(folder: Path | None, *, without: bool = False) -> Any:
    """Dask's `Security` from a node's folder; None without TLS.

    Raises:
        UsageError: no folder is named and TLS was not given up, or a file of it is not there.
    """
    from distributed import Security

    if without:
        return None
    if folder is None:
        raise UsageError(
            "No certificates are named.",
            "Make them with `harness farm certificates DIR` and give --certificates DIR/node, or --no-tls on a network "
            "where every machine is trusted.",
        )
    if folder.is_file():
        raise UsageError(f"{folder} is a file.", "Name the folder of this machine's certificates, as trust/lab1.")
    for name in (AUTHORITY, CERTIFICATE, KEY):
        if not (folder / name).is_file():
            step = "Make it with `harness farm certificates`."
            nodes = sorted(path.parent.name for path in folder.glob(f"*/{CERTIFICATE}"))
            if nodes:
                step = f"Name this machine's folder in it: {', '.join(str(folder / node) for node in nodes[:5])}."
            raise UsageError(f"{folder} has no {name}.", step)
    certificate, key = str(folder / CERTIFICATE), str(folder / KEY)
    roles = {
        f"tls_{role}_{part}": path
        for role in ("scheduler", "worker", "client")
        for part, path in (("cert", certificate), ("key", key))
    }
    return Security(tls_ca_file=str(folder / AUTHORITY), require_encryption=True, **roles)


def _usage(x509: Any, *, signs: bool) -> Any:
    names = (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(digital_signature=True, key_cert_sign=signs, crl_sign=signs, **dict.fromkeys(names, False))


def _private(key: Any, serialization: Any) -> bytes:
    made: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made


def _write(path: Path, content: bytes) -> None:
    with writing(path):
        make_folder(path.parent)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(content)
