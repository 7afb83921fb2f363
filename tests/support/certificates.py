"""Certificates that last two days, for peers of tests that talk over TLS."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


def make_certificates(folder: Path) -> Path:
    """Make ca, server, client, and stranger (of nobody): ``NAME.pem`` and ``NAME.key``."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make certificates with")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for name in ("ca", "stranger"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        _openssl(folder, "req", "-x509", *curve, *files, "-subj", f"/CN={name}")
    for name in ("server", "client"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-subj", f"/CN={name}")
        place = ("-addext", "subjectAltName=IP:127.0.0.1")
        _openssl(folder, "req", "-x509", *curve, *files, *signed, *place)
    return folder


def make_server_tls(certificates: Path, *, is_mutual: bool = False) -> ssl.SSLContext:
    """TLS settings of a peer; it may want a certificate of ours (mutual TLS)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.pem")
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED if is_mutual else ssl.CERT_NONE
    return context


def make_client_tls(certificates: Path, name: str = "") -> ssl.SSLContext:
    """TLS settings of who calls: it believes ca, and shows the certificate of a name, if any."""
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    if name:
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return context


def _openssl(folder: Path, *arguments: str) -> None:
    command = ["openssl", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
