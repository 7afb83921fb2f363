"""The programs that the service starts: one segments in a slot, one delivers.

Run as ``python -m grata_monai.service.worker CONFIG KIND SLOT``. A worker ends when its standard
input closes, so that none outlives the service; what it was doing is begun again by the next one.
"""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from filelock import FileLock

from grata_monai.core.errors import GrataError
from grata_monai.core.sandbox import keep_spares
from grata_monai.service.config import ServiceConfig, read_config
from grata_monai.service.jobs import SEGMENT, Follow, Worker, deliverer, segmenter
from grata_monai.service.ledger import Ledger
from grata_monai.service.spool import Spool
from grata_monai.service.work import deliver, segment

__all__ = ["lock_file", "main", "note_thread", "prepare_logging"]

logger = logging.getLogger(__name__)

EXIT_REFUSED = 2
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
NOISY = ("pynetdicom", "urllib3", "pydicom", "dbos", "sqlalchemy")
"""Libraries that may log what they handle: UIDs, elements, parameters."""


def main(arguments: list[str]) -> None:
    """Work until a signal asks to end, or the service is gone.

    Args:
        arguments: Path of the configuration, kind of the jobs, number of the slot.
    """
    path, kind, slot = arguments
    config = read_config(path)
    prepare_logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_end_with_the_service, daemon=True).start()
    name = segmenter(config, int(slot)) if kind == SEGMENT else deliverer(config)
    (config.folder / "locks").mkdir(exist_ok=True)
    with FileLock(lock_file(config.folder, name)):
        try:
            _work(config, kind, name, int(slot), stop)
        except (GrataError, ValueError) as error:  # of the configuration: no trace is needed
            logger.error("A worker cannot begin: %s", error)
            sys.exit(EXIT_REFUSED)


def lock_file(folder: Path, name: str) -> Path:
    """The lock of a process, of one name among all machines that share the service's folder.

    >>> print(lock_file(Path("grata"), "node-2/slot0"))
    grata/locks/node-2.slot0.lock
    """
    return folder / "locks" / f"{name.replace('/', '.')}.lock"


def prepare_logging() -> None:
    """Log to standard error, for the journal; libraries only what they must.

    Their warnings, and tracebacks of their threads, quote what a peer sent: neither is shown.
    """
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    for library in NOISY:
        logging.getLogger(library).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    threading.excepthook = note_thread


def note_thread(ended: threading.ExceptHookArgs) -> None:
    """Log that a thread has ended by an exception, and of which kind."""
    logger.error("A thread has ended (%s)", ended.exc_type.__name__)


def _work(config: ServiceConfig, kind: str, name: str, slot: int, stop: threading.Event) -> None:
    ledger, spool = Ledger(config), Spool(config.folder)
    perform: Callable[[str, int, int], Follow | None]
    if kind == SEGMENT:
        if config.bundle_key is not None:
            os.environ["GRATA_BUNDLE_KEY"] = str(config.bundle_key)
        from grata_monai.service.segmenter import Segmenter  # noqa: PLC0415  # torch is slow

        keep_spares()
        perform = partial(segment, config, ledger, run=Segmenter(config, spool, slot=slot).run)
    else:
        perform = partial(deliver, config, ledger, spool)
    worker = Worker(config, kind, name, perform)
    stop.wait()
    worker.close(config.limits.drain_seconds)


def _end_with_the_service() -> None:
    while os.read(0, 1):  # a buffered read would hold a lock that the end of Python wants
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
