"""A configuration, a ledger and a spool of a service that does not run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import make_certificates

from grata_monai.service.config import ServiceConfig, read_config
from grata_monai.service.ledger import Ledger
from grata_monai.service.spool import Spool

CONFIG = """
folder = "service"
node = "here"
{root}
[dicom]
peers = ["SCANNER"]
{dicom}
[[routes]]
called = "GRATA"
destination = "archive"
[[destinations]]
name = "archive"
address = "dicom://ARCHIVE@127.0.0.1:104"
{rest}
"""


@pytest.fixture
def write_config(tmp_path) -> Callable[..., Path]:
    """Write a configuration; parts may be added."""

    def write(*, root: str = "", dicom: str = "", rest: str = "") -> Path:
        path = tmp_path / "service.toml"
        path.write_text(CONFIG.format(root=root, dicom=dicom, rest=rest))
        return path

    return write


@pytest.fixture
def config(write_config) -> ServiceConfig:
    return read_config(write_config(rest="[limits]\nfree_gib = 0\ntries = 2\n"))


@pytest.fixture
def ledger(config) -> Iterator[Ledger]:
    ledger = Ledger(config)
    yield ledger
    ledger.close()


@pytest.fixture
def spool(config) -> Spool:
    return Spool(config.folder)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Path:
    """A folder with certificates, see `make_certificates`."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))
