"""A real PACS for tests: Orthanc with its DICOMweb plugin, on free loopback ports."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TITLE, OUR_TITLE = "ORTHANC", "GRATA_MONAI"
STARTING_SECONDS = 60


def is_installed() -> bool:
    """Whether the server and its plugin are there (apt-get install orthanc orthanc-dicomweb)."""
    return shutil.which("Orthanc") is not None and PLUGIN.exists()


@dataclass(frozen=True)
class Orthanc:
    """A running server.

    Attributes:
        http_port: Of REST and DICOMweb.
        dicom_port: Of C-STORE.
        reply_port: Where it reports storage commitment to.
    """

    http_port: int
    dicom_port: int
    reply_port: int

    @property
    def store_address(self) -> str:
        return f"dicom://{TITLE}@127.0.0.1:{self.dicom_port}"

    @property
    def web_address(self) -> str:
        return f"dicomweb://127.0.0.1:{self.http_port}/dicom-web"

    def ask(self, path: str, method: str = "GET") -> Any:
        """Ask its REST interface."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Start a server whose files lie in a folder; it ends with the context."""
    found = Orthanc(*(_free_port() for _ in range(3)))
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": found.http_port,
        "DicomPort": found.dicom_port,
        "DicomAet": TITLE,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": False,
        "DicomModalities": {
            "ours": {"AET": OUR_TITLE, "Host": "127.0.0.1", "Port": found.reply_port}
        },
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder
        )
    try:
        _wait(found, process)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(server: Orthanc, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"Orthanc must start, it ended with {process.returncode}.")
        try:
            server.ask("system")
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"Orthanc must answer within {STARTING_SECONDS} s, it does not.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
