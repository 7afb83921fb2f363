"""A receiver of its own, without the rest of the service."""

from collections.abc import Iterator
from contextlib import contextmanager

from grata_monai.service.config import ServiceConfig
from grata_monai.service.intake import Intake
from grata_monai.service.ledger import Ledger
from grata_monai.service.scp import Receiver
from grata_monai.service.spool import Spool


@contextmanager
def listening(config: ServiceConfig) -> Iterator[tuple[Receiver, Intake]]:
    """Listen until the context ends."""
    ledger = Ledger(config)
    intake = Intake(config, ledger, Spool(config.folder))
    receiver = Receiver(config, intake)
    yield receiver, intake
    receiver.close()
    intake.headers.close()
    ledger.close()
