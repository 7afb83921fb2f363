"""The service's configuration is checked whole, and names what is wrong and what is near."""

import os

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


PULL = '[[pull]]\nsource = "dicomwebs://a.example/x"\ncalled = "GRATA"\n'
HOSTILE = {
    "a text for a truth": ({"dicom": 'insecure = "no"'}, r"dicom\.insecure is not: .* boolean"),
    "a number for a truth": ({"dicom": "insecure = 1"}, r"dicom\.insecure is not: .* boolean"),
    "a text for a number": ({"root": 'slots = "2"'}, "slots is not: .* integer"),
    "a truth for a number": ({"root": "slots = true"}, "slots is not: .* integer"),
    "a number for a table": ({"root": "limits = 7"}, "limits is not: .* object"),
    "a list for a table": ({"rest": "[[web]]"}, "web is not: .* object"),
    "without end": ({"rest": "[limits]\nkeep_days = inf"}, "keep_days is not: .* finite"),
    "no number": (
        {"rest": "[completeness]\nquiet_seconds = nan"},
        "quiet_seconds is not: .*finite",
    ),
    "a number of 400 digits": (
        {"rest": f"[limits]\ntries = 1{'0' * 400}"},
        "tries is not: .* 1000",
    ),
    "a hundred thousand workers": ({"root": "slots = 100_000"}, "slots is not: .* 256"),
    "days beyond all calendars": (
        {"rest": f"{PULL}days = 99_999_999_999"},
        "days is not: .* 36500",
    ),
    "every address": ({"dicom": 'address = "[::]:104"'}, "dicom is not: address must be on this"),
    "no host": ({"dicom": 'address = ":104"'}, "must have the form HOST:PORT"),
    "a host behind a user": ({"dicom": 'address = "127.0.0.1@e.example:1"'}, "the form HOST:PORT"),
    "a query behind a port": ({"dicom": 'address = "127.0.0.1:1?x"'}, "the form HOST:PORT"),
    "a host like ours": ({"dicom": 'address = "localhost.e.example:1"'}, "must be on this machine"),
    "a host of three parts": ({"dicom": 'address = "127.1:104"'}, "must be on this machine"),
    "an authority alone": ({"dicom": 'ca = "ca.pem"'}, "ca and certificate must be given"),
    "a key alone": ({"dicom": 'key = "server.key"'}, "certificate must be given where key is"),
    "a key of another": (
        {"dicom": 'ca = "ca.pem"\ncertificate = "server.pem"\nkey = "client.key"'},
        "must be PEM files that belong together",
    ),
    "a pipe for a certificate": ({"dicom": 'ca = "pipe"'}, "ca must be a file, 'pipe' is none"),
    "credentials that nobody asks for": (
        {"dicom": 'credentials = "secret"'},
        r"dicom\.credentials is not\. Did you mean certificate\?",
    ),
    "credentials for no DICOMweb": (
        {"rest": '[completeness]\ncount = "dicoms://A@b.example"\ncredentials = "secret"'},
        "credentials must be for DICOMweb",
    ),
    "credentials of two lines": (
        {"rest": f'{PULL}credentials = "lines"'},
        "credentials must be one line, the file has 2",
    ),
    "a password in an address": (
        {"rest": '[[destinations]]\nname = "b"\naddress = "dicomwebs://u:hunter2@b.example"'},
        "must have no user or password in it",
    ),
    "a study in an address": (
        {"rest": '[completeness]\ncount = "dicomwebs://a.example?study=1.2.3"'},
        "address must name the service only",
    ),
    "a count in clear text": (
        {"rest": '[completeness]\ncount = "dicom://A@b.example:104"'},
        "address must be encrypted or on this machine",
    ),
    "a reply from anywhere": (
        {
            "rest": '[[destinations]]\nname = "b"\naddress = "dicom://B@127.0.0.1:104"\n'
            'commitment = true\nreply = "0.0.0.0:104"'
        },
        "reply must be encrypted or on this machine",
    ),
    "a reply that nobody asks for": (
        {
            "rest": '[[destinations]]\nname = "b"\naddress = "dicom://B@127.0.0.1:104"\n'
            'reply = "127.0.0.1:104"'
        },
        "commitment must be true where reply is given",
    ),
    "clients' certificates without TLS": (
        {"rest": '[web]\nclient_ca = "ca.pem"'},
        "certificate must be given where key or client_ca is",
    ),
    "a page's certificate that is none": (
        {"rest": '[web]\ncertificate = "secret"'},
        "must be PEM files that belong together",
    ),
    "an authority that is none": (
        {"rest": '[audit]\nsyslog = "a.example:6514"\nca = "secret"'},
        "must be PEM files that belong together",
    ),
    "clear text to a syslog server": ({"rest": "[audit]\ninsecure = true"}, "insecure is not"),
    "a token of a pipe": ({"rest": '[web]\ntoken = "pipe"'}, "token must be a file, it is none"),
    "a token of bytes": ({"rest": '[web]\ntoken = "bytes"'}, r"token must be ASCII\. Make another"),
    "a token in place of its file": (
        {"rest": '[web]\ntoken_text = "hunter2hunter2hunter2"'},
        r"web\.token_text is not\. Did you mean token\?",
    ),
    "a key for bundles that is a pipe": ({"root": 'bundle_key = "pipe"'}, "must be a file"),
    "a path with NUL": ({"root": 'bundle_key = "a\\u0000"'}, "bundle_key holds a NUL"),
    "a home of nobody": ({"root": 'bundle_key = "~nobody_x/a"'}, "must be a readable TOML file"),
    "a bundle that is none": (
        {"rest": '[[routes]]\ncalled = "B"\ndestination = "archive"\nbundle = "nowhere"'},
        "bundle of a route must be a folder",
    ),
    "a watch over everything": ({"rest": '[[watch]]\nfolder = "/"\ncalled = "GRATA"'}, "around it"),
    "a watch over its own files": (
        {"rest": '[[watch]]\nfolder = "service/series"\ncalled = "GRATA"'},
        "neither in the service's folder",
    ),
    "a watch by a link": ({"rest": '[[watch]]\nfolder = "link"\ncalled = "GRATA"'}, "around it"),
    "a folder watched twice": (
        {"rest": 2 * '[[watch]]\nfolder = "in"\ncalled = "GRATA"\n'},
        "in or around another watch's",
    ),
    "another database": (
        {"root": 'database = "postgresqlevil://a"'},
        "must begin with postgresql:",
    ),
    "lists without end": (
        {"root": f"x = {'[' * 5000}{']' * 5000}"},
        "must be a readable TOML file",
    ),
    "a key twice": ({"root": "slots = 1\nslots = 2"}, "must be a readable TOML file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_configuration_is_refused_with(name, write_config, certificates, tmp_path):
    parts, said = HOSTILE[name]
    for file in ("ca.pem", "server.pem", "server.key", "client.key"):
        (tmp_path / file).write_bytes((certificates / file).read_bytes())
    (tmp_path / "secret").write_text("Bearer hunter2hunter2hunter2")
    (tmp_path / "lines").write_text("Bearer hunter2hunter2hunter2\nBearer b")
    (tmp_path / "bytes").write_bytes(b"hunter2" + bytes(range(128, 160)))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=said) as caught:
        read_config(write_config(**parts))
    assert "hunter2" not in str(caught.value)


def test_a_pipe_in_place_of_the_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "service.toml")
    with pytest.raises(ValueError, match=r"'service.toml' is not \(no such file\)"):
        read_config(tmp_path / "service.toml")


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be a readable TOML file, 'none.toml' is not"):
        read_config(tmp_path / "none.toml")


def test_a_short_token_is_refused_and_not_repeated(write_config, tmp_path):
    (tmp_path / "token").write_text("hunter2")
    with pytest.raises(ValueError, match=r"token must have at least 16") as caught:
        read_config(write_config(rest='[web]\ntoken = "token"'))
    assert "hunter2" not in str(caught.value)
