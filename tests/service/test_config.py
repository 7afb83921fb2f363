"""The service's configuration is checked whole, and names what is wrong and what is near."""

import pytest

from grata_monai.service.config import read_config


def test_relative_paths_count_from_the_file(write_config, tmp_path):
    found = read_config(write_config())
    assert found.folder == tmp_path / "service"
    assert found.route("GRATA").destination == "archive"
    assert found.route("OTHER") is None


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"root": "slotz = 2"}, r"slotz is not\. Did you mean slots\?"),
        ({"rest": "[limits]\ntry = 2"}, r"limits\.try is not\. Did you mean tries\?"),
        ({"dicom": "peer = 1"}, r"dicom\.peer is not\. Did you mean peers\?"),
        ({"rest": "[[watch]]\nfolder = 'in'"}, r"must be given, watch\.1\.called is not\. Add it"),
        ({"rest": "[limits]\ntries = 0"}, r"limits\.tries is not: .*greater than or equal to 1"),
        ({"dicom": 'address = "0.0.0.0:104"'}, r"dicom is not: address must be on this machine"),
        ({"rest": '[web]\naddress = "0.0.0.0:80"'}, r"web is not: .*have TLS and a token"),
        ({"root": 'database = "mysql://x"'}, r"database must begin with postgresql://"),
        (
            {"rest": '[[routes]]\ncalled = "GRATA"\ndestination = "archive"'},
            r"called of a route must be given once",
        ),
        (
            {"rest": '[[routes]]\ncalled = "B"\ndestination = "archiv"'},
            r'destination of a route must be one of \["archive"\]',
        ),
        (
            {"rest": '[[watch]]\nfolder = "in"\ncalled = "GRATAA"'},
            r'called must be one of \["GRATA"\]',
        ),
        (
            {"rest": '[[destinations]]\nname = "b"\naddress = "dicom://B@pacs.example:104"'},
            r"address must be encrypted or on this machine",
        ),
        (
            {
                "rest": '[[destinations]]\nname = "b"\naddress = "dicomweb://127.0.0.1:80"\n'
                "commitment = true"
            },
            r"commitment must be asked by C-STORE",
        ),
    ],
)
def test_a_fault_is_named(write_config, parts, said):
    with pytest.raises(ValueError, match=said):
        read_config(write_config(**parts))


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be a readable TOML file, 'none.toml' is not"):
        read_config(tmp_path / "none.toml")


def test_a_short_token_is_refused_and_not_repeated(write_config, tmp_path):
    (tmp_path / "token").write_text("hunter2")
    with pytest.raises(ValueError, match=r"token must have at least 16") as caught:
        read_config(write_config(rest='[web]\ntoken = "token"'))
    assert "hunter2" not in str(caught.value)
