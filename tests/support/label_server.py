"""A real MONAI Label server for tests, on a free loopback port, with the bundle installed."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email import policy
from email.parser import BytesParser
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from monai.data import ITKReader

from grata_monai.bundle.lint import write_manifest

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / ".venv-label" / "bin" / "python"
MODEL = "prostate_mri_segmentation"
STARTING_SECONDS = 180
NOT_INSTALLED = "no .venv-label; run `make label-env`"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # equal bytes need equal numbers of threads


def is_installed() -> bool:
    """Whether `make label-env` has made the environment."""
    return (PYTHON.parents[1] / ".installed").exists()


@dataclass(frozen=True)
class Answer:
    """What the server answered.

    Attributes:
        status: Of HTTP.
        params: The JSON part; the error's content if the status is not 200.
        mask: Label map (x, y, z); None without one.
        affine_ras: Of the mask, 4×4; None without one.
    """

    status: int
    params: Any
    mask: np.ndarray | None = None
    affine_ras: np.ndarray | None = None

    @property
    def record(self) -> Any:
        return self.params["record"]


@dataclass(frozen=True)
class LabelServer:
    """A running server.

    Attributes:
        port: Of HTTP.
        folder: Where its files lie: ``app``, ``studies``, ``sessions``, ``log``.
    """

    port: int
    folder: Path

    @property
    def bundle(self) -> Path:
        """Of the app."""
        return self.folder / "app" / "model" / MODEL

    def ask(self, path: str) -> Any:
        """GET something as JSON."""
        with self._open(urllib.request.Request(self._url(path))) as answer:
            return json.load(answer)

    def ask_for_sample(self, strategy: str) -> Any:
        """The next study, as Slicer's button asks for it."""
        path = f"activelearning/{urllib.parse.quote(strategy)}"
        with self._open(urllib.request.Request(self._url(path), method="POST")) as answer:
            return json.load(answer)

    def request(
        self, path: str, *, headers: Mapping[str, str] = MappingProxyType({}), method: str = "GET"
    ) -> Any:
        """Ask with headers and a method of one's own."""
        request = urllib.request.Request(self._url(path), headers=dict(headers), method=method)
        with self._open(request) as answer:
            return json.load(answer)

    def post(self, path: str, text: str) -> int:
        """POST JSON; the status of the answer."""
        request = urllib.request.Request(
            self._url(path), text.encode(), {"Content-Type": "application/json"}
        )
        try:
            with self._open(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def upload(
        self, path: str, name: str, content: bytes, *, field: str = "file", method: str = "PUT"
    ) -> Any:
        """Send a file."""
        body, kind = _form([(field, name, content)])
        request = urllib.request.Request(
            self._url(path), body, {"Content-Type": kind}, method=method
        )
        with self._open(request) as answer:
            return json.load(answer)

    def segment(self, image: str | Path, **options: Any) -> Answer:
        """Infer an image of the studies by its name, or any path that the server can read."""
        return self.infer({"image": str(image)}, options)

    def infer(
        self, query: Mapping[str, str], options: Mapping[str, Any] | str, model: str = MODEL
    ) -> Answer:
        """POST an inference as 3D Slicer does, but for the format of the mask; text as it is."""
        if isinstance(options, str):
            params = options
        else:
            formats = {"result_extension": ".nii.gz", "result_dtype": "uint8"}
            params = json.dumps({**formats, **options})
        path = f"infer/{model}?{urllib.parse.urlencode(query)}"
        body, kind = _form([("params", "", params.encode())])
        request = urllib.request.Request(self._url(path), body, {"Content-Type": kind})
        try:
            with self._open(request) as answer:
                return _read_answer(answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _read_error(error.read()))

    def open_session(self, files: Sequence[Path]) -> str:
        """Upload files as a session; several become a folder on the server."""
        body, kind = _form([("files", file.name, file.read_bytes()) for file in files])
        url = self._url("session/")
        request = urllib.request.Request(url, body, {"Content-Type": kind}, method="PUT")
        with self._open(request) as answer:
            return str(json.load(answer)["session_id"])

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def _open(self, request: urllib.request.Request) -> Any:
        return urllib.request.urlopen(request, timeout=600)


def make_tiny_bundle(folder: Path, **settings: Any) -> Path:
    """Copy the bundle, with settings of its configuration changed and its manifest renewed."""
    shutil.copytree(REPOSITORY / "bundle", folder, ignore=shutil.ignore_patterns("eval"))
    path = folder / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings, indent=4))
    write_manifest(folder)
    return folder


def run_label(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m grata_monai label …`` in the environment of MONAI Label."""
    return subprocess.run(
        [str(PYTHON), "-W", "ignore", "-m", "grata_monai", "label", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(REPOSITORY)},
    )


@contextmanager
def running_label(folder: Path, *, bundle: Path | None = None) -> Iterator[LabelServer]:
    """Install a bundle, and start a server over ``folder/studies``; it ends with the context.

    Args:
        folder: For all its files.
        bundle: Root of the bundle; the repository's if None.

    Yields:
        The server, answering.
    """
    server = LabelServer(_free_port(), folder)
    (folder / "studies").mkdir(exist_ok=True)
    source = str(bundle or REPOSITORY / "bundle")
    installed = run_label("install", "app", "--bundle", source, cwd=folder)
    if installed.returncode:
        raise RuntimeError(f"the bundle must install, it does not: {installed.stderr}")
    models = {"models": MODEL, "zoo_source": "local", "sam2": "false", "skip_trainers": "true"}
    conf = [part for pair in models.items() for part in ("--conf", *pair)]
    address = ["--host", "127.0.0.1", "--port", str(server.port)]
    command = ["start_server", "--app", "app", "--studies", "studies", *conf, *address]
    ours = ["--uvicorn_app", "grata_monai.hosts.label.server:app"]
    sessions = {"MONAI_LABEL_SESSION_PATH": str(folder / "sessions")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(PYTHON), "-m", "monailabel.main", *command, *ours],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **ONE_THREAD, **sessions, "PYTHONPATH": str(REPOSITORY)},
        )
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait(server: LabelServer, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"MONAI Label must start, it ended with {process.returncode}.")
        try:
            server.ask("info/")
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"MONAI Label must answer within {STARTING_SECONDS} s, it does not.")


def _form(parts: Sequence[tuple[str, str, bytes]]) -> tuple[bytes, str]:
    """Encode fields and files (name, file name or nothing, content) as multipart/form-data."""
    boundary = "grata-monai-test-boundary"
    lines = []
    for name, file, content in parts:
        of_file = f'; filename="{file}"' if file else ""
        lines += [f"--{boundary}".encode()]
        lines += [f'Content-Disposition: form-data; name="{name}"{of_file}'.encode(), b"", content]
    lines += [f"--{boundary}--".encode(), b""]
    return b"\r\n".join(lines), f"multipart/form-data; boundary={boundary}"


def _read_answer(kind: str, content: bytes) -> Answer:
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    message = BytesParser(policy=policy.default).parsebytes(head + content)
    parts = {
        str(part.get_param("name", header="content-disposition")): part
        for part in message.iter_parts()
    }
    params: Any = parts["params"].get_payload(decode=True)
    return Answer(200, json.loads(params), *_read_image(parts["image"]))


def _read_image(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """Read a mask as another program would: with ITK, from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / part.get_filename()
        path.write_bytes(part.get_payload(decode=True))
        reader = ITKReader()  # turns ITK's LPS into RAS
        voxels, meta = reader.get_data(reader.read(str(path)))
        return np.array(voxels), np.asarray(meta["affine"], dtype=np.float64)


def _read_error(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
