"""Secrets come from files or the environment, go to the right peer only, and show nowhere."""

import logging
import warnings

import pytest

from grata_monai.transfer.address import parse_address
from grata_monai.transfer.security import (
    Security,
    authorization_header,
    check_encryption,
    client_context,
    quiet_libraries,
    server_context,
)

SAFE = parse_address("dicomwebs://pacs.example")
LOCAL = parse_address("dicomweb://127.0.0.1")
CLEAR = parse_address("dicomweb://pacs.example")


@pytest.fixture
def credentials(tmp_path):
    def write(text):
        path = tmp_path / "credentials"
        path.write_text(text)
        return Security(credentials=path, is_insecure=True)

    return write


@pytest.mark.parametrize("text", ["dicomweb://pacs.example", "dicom://A@10.0.0.1"])
def test_clear_text_beyond_this_machine_must_be_asked_for(text):
    address = parse_address(text)
    with pytest.raises(
        ValueError, match=r"must be encrypted .* Use dicom(web)?s://, or .*: --insecure"
    ):
        check_encryption(address, Security())
    check_encryption(address, Security(is_insecure=True))


@pytest.mark.parametrize("text", ["dicomweb://localhost", "dicom://A@127.0.0.1", "dicoms://A@h"])
def test_tls_and_this_machine_are_safe(text):
    check_encryption(parse_address(text), Security())


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ""),
        ({"GRATA_TRANSFER_TOKEN": "abc"}, "Bearer abc"),
        # RFC 7617's own example
        (
            {"GRATA_TRANSFER_USER": "Aladdin", "GRATA_TRANSFER_PASSWORD": "open sesame"},
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ),
    ],
)
def test_the_environment_gives_credentials(environment, expected):
    assert authorization_header(SAFE, Security(), environment) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bearer abc\n", "Bearer abc"),
        ("Basic Aladdin:open sesame\n", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
    ],
)
def test_a_file_gives_credentials_and_goes_first(credentials, text, expected):
    environment = {"GRATA_TRANSFER_TOKEN": "other"}
    assert authorization_header(SAFE, credentials(text), environment) == expected
    assert authorization_header(LOCAL, credentials(text), environment) == expected


@pytest.mark.parametrize(
    "text",
    ["hunter2", "Digest hunter2", "Basic hunter2", "Bearer ", "Bearer a\nBearer hunter2", ""],
)
def test_wrong_credentials_are_refused_and_not_repeated(credentials, text):
    with pytest.raises(ValueError, match="credentials must be one line") as caught:
        authorization_header(SAFE, credentials(text), {})
    assert "hunter2" not in str(caught.value)


def test_a_token_of_other_letters_is_refused(credentials):
    with pytest.raises(ValueError, match="token must be printable ASCII"):
        authorization_header(SAFE, credentials("Bearer hünter2"), {})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"GRATA_TRANSFER_USER": "a"}, "must be set together"),
        ({"GRATA_TRANSFER_PASSWORD": "a"}, "must be set together"),
        ({"GRATA_TRANSFER_TOKEN": "a", "GRATA_TRANSFER_USER": "b"}, "only one of"),
    ],
)
def test_half_a_pair_of_credentials_is_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        authorization_header(SAFE, Security(), environment)


def test_credentials_never_travel_in_clear_text(credentials):
    with pytest.raises(ValueError, match=r"credentials must travel over TLS"):
        authorization_header(CLEAR, credentials("Bearer abc"), {})


def test_files_must_exist_and_a_key_has_a_certificate(tmp_path):
    with pytest.raises(ValueError, match=r"ca must be a file, 'ca\.pem' is none") as caught:
        Security(ca=tmp_path / "ca.pem")
    assert str(tmp_path) not in str(caught.value)
    key = tmp_path / "key"
    key.write_text("")
    with pytest.raises(ValueError, match="certificate must be given where key is"):
        Security(key=key)


def test_a_file_that_is_no_certificate_is_refused(tmp_path, certificates):
    path = tmp_path / "a.pem"
    path.write_text("no certificate")
    with pytest.raises(ValueError, match=r"must be PEM files that belong together.*OpenSSL says"):
        client_context(Security(ca=path))
    with pytest.raises(ValueError, match=r"must be PEM files that belong together.*OpenSSL says"):
        client_context(
            Security(certificate=certificates / "client.pem", key=certificates / "server.key")
        )


def test_being_called_over_tls_needs_a_certificate_and_asks_for_one(certificates):
    with pytest.raises(ValueError, match="ca and certificate must be given to be called over TLS"):
        server_context(Security())
    context = server_context(
        Security(
            ca=certificates / "ca.pem",
            certificate=certificates / "client.pem",
            key=certificates / "client.key",
        )
    )
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert context.minimum_version.name == "TLSv1_2"


def test_libraries_are_quiet_inside_and_as_before_outside(caplog):
    noisy = logging.getLogger("pynetdicom.acse")
    noisy.parent.setLevel(logging.INFO)
    try:
        with caplog.at_level(logging.DEBUG), quiet_libraries():
            with quiet_libraries():
                noisy.critical("DOE^JANE")
            noisy.error("DOE^JANE")
            warnings.warn("DOE^JANE", stacklevel=1)  # would be an error
            assert caplog.messages == []
        assert noisy.parent.level == logging.INFO
    finally:
        noisy.parent.setLevel(logging.NOTSET)
