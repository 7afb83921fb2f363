"""Addresses: every form reads, every mistake is named, no secret is repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grata_monai.transfer.address import (
    AeAddress,
    WebAddress,
    check_ae_title,
    check_uid,
    is_loopback,
    parse_address,
    parse_host_port,
)


@pytest.mark.parametrize(
    ("text", "expected", "url"),
    [
        (
            "dicomweb://127.0.0.1:8042/dicom-web",
            WebAddress("127.0.0.1", 8042, "/dicom-web", is_encrypted=False),
            "http://127.0.0.1:8042/dicom-web",
        ),
        ("dicomwebs://pacs.example", WebAddress("pacs.example", 443), "https://pacs.example:443"),
        (
            "dicomwebs://pacs.example/a/b/?study=1.2&series=1.2.3&modality=MR",
            WebAddress("pacs.example", 443, "/a/b", True, "1.2", "1.2.3", "MR"),
            "https://pacs.example:443/a/b",
        ),
        (
            "dicomweb://[::1]:8042",
            WebAddress("::1", 8042, is_encrypted=False),
            "http://[::1]:8042",
        ),
    ],
)
def test_dicomweb_addresses_read(text, expected, url):
    assert parse_address(text) == expected
    assert parse_address(text).base_url == url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dicoms://ARCHIVE@pacs.example", AeAddress("pacs.example", 2762, "ARCHIVE")),
        (
            "dicom://ARCHIVE@127.0.0.1:4242?calling=ME",
            AeAddress("127.0.0.1", 4242, "ARCHIVE", "ME", is_encrypted=False),
        ),
        (
            "dicom://OUR%20ARCHIVE@localhost",
            AeAddress("localhost", 104, "OUR ARCHIVE", is_encrypted=False),
        ),
    ],
)
def test_c_store_addresses_read(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://pacs.example/dicom-web", r"begin with one of .* The nearest is dicomwebs://"),
        ("dicomwebz://pacs.example", r"begin with one of .* The nearest is dicomwebs?://"),
        ("pacs.example", r"begin with one of dicomweb://, .* Put one of them in front"),
        ("dicomweb://127.0.0.1:99999", "port between 1 and 65535"),
        ("dicomweb://127.0.0.1:0", "port must lie between 1 and 65535, got 0"),
        ("dicomweb://", "host must be a name or an IP address"),
        ("dicomweb://a b/c", "host must be a name or an IP address"),
        ("dicomweb://h/a/../b", "path must be made of letters"),
        ("dicomweb://h/a//b", "path must be made of letters"),
        ("dicomweb://h#part", "must have no fragment"),
        ("dicomweb://h?stdy=1.2", r"be one of study, series, modality.*nearest is study"),
        ("dicomweb://h?calling=A", "be one of study, series, modality"),
        ("dicomweb://h?study=", "study must be given once, with a value"),
        ("dicomweb://h?study=1.2&study=1.3", "study must be given once"),
        ("dicomweb://h?study=../../x", "study must be a UID"),
        ("dicomweb://h?study=" + "1." * 32 + "1", "study must be a UID: digits and dots, at most"),
        ("dicomweb://h?series=1.2", "study must be given where series is"),
        ("dicomweb://h?study=1.2&modality=mr", "modality must be a code of up to 16 capitals"),
        ("dicom://127.0.0.1:104", r"must have the form dicom://CALLED@HOST:PORT"),
        ("dicom://A@h/path", r"must have the form dicom://CALLED@HOST:PORT"),
        ("dicom://A@B@h", "nothing but the called AE title in front of @"),
        ("dicom://SEVENTEENLETTERS1@h", "called AE title must have at most 16 characters, got 17"),
        ("dicom://A@h?calling=B%5CC", "calling AE title must be printable ASCII"),
        ("dicom://%20A@h", "called AE title must be printable ASCII .* nor padded"),
        ("dicom://A@h?caling=B", r"be one of calling.*The nearest is calling"),
    ],
)
def test_a_wrong_address_is_refused_with_what_to_do(text, message):
    with pytest.raises(ValueError, match=message):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "dicomweb://user:hunter2@h",
        "dicomweb://hunter2@h",
        "dicom://A:hunter2@h",
        "dicomweb://h?token=hunter2",
        "dicomweb://h?hunter2=1",
        "dicomweb://h:hunter2",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(text):
    with pytest.raises(ValueError, match="must") as caught:
        parse_address(text)
    assert "hunter2" not in str(caught.value)


def test_uids_appear_neither_in_repr_nor_in_str():
    address = parse_address("dicomwebs://h/d?study=1.2.840.99&series=1.2.840.98")
    for text in (repr(address), str(address)):
        assert "1.2.840" not in text
    assert str(address) == "dicomwebs://h:443/d"
    assert str(parse_address("dicoms://A@h")) == "dicoms://A@h:2762"


def test_an_address_is_checked_also_when_built_in_python():
    with pytest.raises(ValueError, match="port must lie between"):
        WebAddress("h", 0)
    with pytest.raises(ValueError, match="called AE title must have at most 16"):
        AeAddress("h", 104, "A" * 17)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LocalHost"])
def test_this_machine_is_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "localhost.example", "0.0.0.0", "::"])
def test_other_machines_are_not_loopback(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("text", ["", "127.0.0.1", "127.0.0.1:x", "a@h:1", "h:1/p", ":11"])
def test_an_address_to_listen_on_has_host_and_port(text):
    with pytest.raises(ValueError, match="must have the form HOST:PORT"):
        parse_host_port(text)


@given(st.text(max_size=20))
def test_what_is_accepted_as_ae_title_fits_into_dicom(title):
    try:
        check_ae_title(title, "title")
    except ValueError:
        return
    assert 1 <= len(title.encode("ascii")) <= 16
    assert "\\" not in title
    assert title.strip() == title


@given(st.text("0123456789./%\n", max_size=70))
def test_what_is_accepted_as_uid_is_safe_in_a_url(uid):
    try:
        check_uid(uid, "uid")
    except ValueError:
        return
    assert len(uid) <= 64
    assert set(uid) <= set("0123456789.")
    assert ".." not in uid


@given(
    st.text("ABCDEFGHIJ_-", min_size=1, max_size=16),
    st.integers(1, 65535),
    st.booleans(),
)
def test_an_address_reads_back_from_its_text(title, port, is_encrypted):
    address = AeAddress("pacs.example", port, title, is_encrypted=is_encrypted)
    assert parse_address(str(address)) == address
