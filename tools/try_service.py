"""Try the service on this machine: a phantom comes in, its segmentation goes to an archive.

The archive is Orthanc where that is installed, else a folder. Run with ``make serve``; Ctrl-C ends.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from pynetdicom import AE, AllStoragePresentationContexts, evt

from grata_monai.phantom import write_cases
from grata_monai.phantom.dicom import SeriesOptions, write_nifti_as_series
from grata_monai.service.config import read_config
from grata_monai.service.ledger import ENDS, Ledger
from grata_monai.transfer.exchange import send

ARCHIVE_PORT, DICOM_PORT, WEB_PORT, ORTHANC_WEB_PORT = 11122, 11112, 8080, 8042
CONFIG = f"""folder = "service"
[dicom]
address = "127.0.0.1:{DICOM_PORT}"
peers = ["PHANTOM"]
[[routes]]
called = "GRATA"
destination = "archive"
recipe = "views"
[[destinations]]
name = "archive"
address = "dicom://ARCHIVE@127.0.0.1:{ARCHIVE_PORT}"
[completeness]
quiet_seconds = 5
[limits]
free_gib = 1
[web]
address = "127.0.0.1:{WEB_PORT}"
"""


def main(folder: Path) -> int:
    """Run the service, send it a phantom, and say what became of it.

    Args:
        folder: Holds everything; kept, so that the next try goes on.

    Returns:
        Exit status.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "service.toml"
    config.write_text(CONFIG, encoding="utf-8")
    series = _make_phantom(folder)
    options = ["-W", "ignore", "-m", "grata_monai", "serve", "--config", str(config)]
    with _archive(folder), _running([sys.executable, *options]):
        files = sorted(series.iterdir())
        print(f"page: http://127.0.0.1:{WEB_PORT}/  sending {len(files)} instances ...")
        _wait_for_the_service()
        send(files, f"dicom://GRATA@127.0.0.1:{DICOM_PORT}?calling=PHANTOM")
        ledger = Ledger(read_config(config))
        state = ""
        while state not in ENDS:
            time.sleep(1)
            (row,) = ledger.find()
            if row.state != state:
                state = row.state
                print(f"{row.key}: {state} {row.reason}")
        results = folder / "service" / "results" / f"{row.key}-{row.edition}"
        if (results / "index.html").is_file():
            print(f"open in a browser: {results / 'index.html'}")
        print("Ctrl-C ends the service.")
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            return 0


def _wait_for_the_service() -> None:
    """Wait until it answers, two minutes at most; sending says what is wrong."""
    for _ in range(240):
        with suppress(OSError), urlopen(f"http://127.0.0.1:{WEB_PORT}/healthz", timeout=5):
            return
        time.sleep(0.5)


def _make_phantom(folder: Path) -> Path:
    """A phantom as DICOM series; the same one each time."""
    series = folder / "series"
    if not series.exists():
        ((image, _),) = write_cases(folder / "phantom", cases=1, shift="endorectal_coil", seed=0)
        write_nifti_as_series(image, series, options=SeriesOptions(seed=0))
    return series


@contextmanager
def _archive(folder: Path) -> Iterator[None]:
    """Orthanc, or a folder that takes C-STORE."""
    archive = folder / "archive"
    archive.mkdir(exist_ok=True)
    if shutil.which("Orthanc") is not None:
        settings = {
            "StorageDirectory": str(archive.absolute()), "IndexDirectory": str(archive.absolute()),
            "DicomPort": ARCHIVE_PORT, "DicomAet": "ARCHIVE", "HttpPort": ORTHANC_WEB_PORT,
            "RemoteAccessAllowed": False,
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
        with (
            (folder / "orthanc.log").open("w") as log,
            _running(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log),
        ):
            print(f"archive: Orthanc, http://127.0.0.1:{ORTHANC_WEB_PORT}/")
            yield
        return

    def keep(event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        path = archive / f"{event.request.AffectedSOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return 0x0000

    entity = AE("ARCHIVE")
    entity.supported_contexts = AllStoragePresentationContexts
    server: Any = entity.start_server(
        ("127.0.0.1", ARCHIVE_PORT), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)]
    )
    print(f"archive: {archive}")
    try:
        yield
    finally:
        server.shutdown()


@contextmanager
def _running(command: list[str], **options: Any) -> Iterator[None]:
    process = subprocess.Popen(command, **options)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
