"""MONAI Label's own server, which reads our bundle's ``label.json`` too, with its gaps closed.

Used with ``--uvicorn_app grata_monai.hosts.label.server:app``.

MONAI Label 0.8.5 alone

- runs a client's ``device`` that begins with ``$`` as Python, since it writes it into the bundle's
  configuration. Here only names of devices pass;
- answers any web page that the user of this machine has open, and any name of this machine. Here
  `grata_monai.hosts.label.guard` stands before it;
- reads images anywhere on the server, and writes uploads where their name leads. Here
  `grata_monai.hosts.label.requests` asks first;
- answers a refusal with a bare "Internal Server Error". Here clients get the reason.

It also reads ``inference.json`` alone, unverified. Here a bundle that has an overlay ``label.json``
is held to its manifest, then read with it: options for the client, and an answer with the record.
"""

import atexit
import functools
import io
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from grata_monai.core.errors import CaseError, DatasetError, GrataError, RecipeError, find_cause
from grata_monai.hosts.label.answer import PAGES, REPORTS_FOLDER
from grata_monai.hosts.label.guard import Access, Guard
from grata_monai.hosts.label.requests import (
    check_image,
    check_info,
    check_model,
    check_no_link,
    check_parameters,
    check_upload,
)
from grata_monai.hosts.label.worklist import extend_app, note, take_original

__all__ = ["check_device", "correct_status", "describe_error", "make_app"]

logger = logging.getLogger(__name__)

REFUSED = 422  # what was asked for cannot be done
FAILED = 500
ASKED_WRONGLY = {
    "Neither Image": "image must be given, or sent, it is not. /datastore/ lists them.",
    "DICOM SEG format": "output must be image, json or all, dicom_seg needs a DICOMweb datastore.",
}
"""How MONAI Label begins what it says of a client's fault with status 500, and what we say."""
PAGE = re.compile(r"index\.html|report/\w[\w.+-]*\.(html|thumb\.png)")
DEVICE = re.compile(r"[\w .,:+()/-]*")  # cpu, cuda:1, NVIDIA H100 80GB HBM3:0


def describe_error(error: GrataError) -> tuple[int, dict[str, str]]:
    """Turn one of our errors into what a client gets.

    Args:
        error: Raised while a request was served.

    Returns:
        Status of the answer, and its content: ``detail``, the error's own words, in one line.
    """
    is_request = isinstance(error, CaseError | DatasetError | RecipeError)
    detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return (REFUSED if is_request else FAILED), {"detail": detail}


def check_device(device: Any) -> None:
    """Refuse what could mean something to a configuration's parser.

    Args:
        device: As a client sent it: a name, several names to choose the first from, or nothing.

    Raises:
        RecipeError: If it is anything else.
    """
    names = device if isinstance(device, list) else [device]
    if not all(n is None or (isinstance(n, str) and DEVICE.fullmatch(n)) for n in names):
        raise RecipeError("device must be one of those that /info/ lists, it is none. Choose one.")


def correct_status(status: int, detail: str) -> tuple[int, str]:
    """Tell a client's fault, which MONAI Label calls a server's, as one of the client's.

    Args:
        status: MONAI Label's own.
        detail: Its words.

    Returns:
        Status and words for the client.
    """
    return next(((REFUSED, told) for begin, told in ASKED_WRONGLY.items()
                 if detail.startswith(begin)), (status, detail))  # fmt: skip


@functools.cache
def make_app() -> Guard:
    """Take MONAI Label's application and close its gaps.

    Returns:
        An ASGI application; the same object every time.

    Raises:
        ModuleNotFoundError: If MONAI Label is not installed.
        ValueError: If a setting of the environment is wrong.
    """
    from fastapi import HTTPException  # noqa: PLC0415  # only beside MONAI Label
    from fastapi.middleware.cors import CORSMiddleware  # noqa: PLC0415
    from fastapi.responses import JSONResponse  # noqa: PLC0415

    access = Access.from_environment(os.environ)
    with redirect_stdout(io.StringIO()):  # it says that it allows every origin
        from monailabel.app import app  # noqa: PLC0415
    from monailabel.datastore.local import LocalDatastore  # noqa: PLC0415
    from monailabel.endpoints import infer  # noqa: PLC0415
    from monailabel.interfaces.app import MONAILabelApp  # noqa: PLC0415
    from monailabel.interfaces.exception import MONAILabelException  # noqa: PLC0415
    from monailabel.tasks.infer.bundle import BundleInferTask  # noqa: PLC0415

    async def answer_for(request: Any, error: HTTPException) -> Any:
        status, detail = correct_status(error.status_code, str(error.detail))
        return JSONResponse({"detail": detail}, status_code=status, headers=error.headers)

    async def answer(request: Any, error: Exception) -> Any:
        said = error.msg if isinstance(error, MONAILabelException) else None
        status, content = _describe(error, said)
        logger.error("request refused: %s", content["detail"])
        return JSONResponse(content, status_code=status)

    _keep_uploads_apart()
    MONAILabelApp.__init__ = _with_worklist(MONAILabelApp.__init__)
    MONAILabelApp.infer = _with_checked_request(MONAILabelApp.infer)
    infer.binary_to_image = _refuse_raw_label
    LocalDatastore.add_image = _with_checked_file(LocalDatastore.add_image)
    LocalDatastore.save_label = _with_checked_file(LocalDatastore.save_label, has_tag=True)
    LocalDatastore.remove_image = _with_checked_name(LocalDatastore.remove_image)
    LocalDatastore.remove_label = _with_checked_name(LocalDatastore.remove_label)
    LocalDatastore.update_image_info = _with_checked_info(LocalDatastore.update_image_info)
    LocalDatastore.update_label_info = _with_checked_info(LocalDatastore.update_label_info)
    BundleInferTask._load_bundle_config = _with_overlay(BundleInferTask._load_bundle_config)
    app.add_api_route(PAGES + "/{path:path}", _show_page, include_in_schema=False)
    app.user_middleware = [m for m in app.user_middleware if m.cls is not CORSMiddleware]
    # RuntimeError: MONAI wraps what a component raises; the others: parameters that are no JSON
    # Exception: what is left, which Starlette also hands on
    for kind in (GrataError, RuntimeError, MONAILabelException, OSError, TypeError, ValueError,
                 Exception):  # fmt: skip
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(HTTPException, answer_for)
    logger.info("answers to %s; pages of other origins: none", ", ".join(sorted(access.hosts)))
    return Guard(app, access)


def _describe(error: Exception, said: str | None) -> tuple[int, dict[str, str]]:
    """Describe our errors by their words, MONAI Label's by its message, others by their kind."""
    cause = find_cause(error)
    if cause is not None:
        return describe_error(cause)
    if said is not None:
        return REFUSED, {"detail": " ".join(str(said).split())}
    if isinstance(error, TypeError | ValueError | RecursionError):
        return REFUSED, {
            "detail": f"params must be one JSON object of values ({type(error).__name__})."
        }
    return FAILED, {"detail": f"the server failed ({type(error).__name__}). Its log says when."}


def _keep_uploads_apart() -> None:
    """Give uploads a private folder: only what lies there, or in the studies, may be read."""
    tempfile.tempdir = tempfile.mkdtemp(prefix="grata-label-")
    atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)


def _with_checked_request(infer: Callable[..., Any]) -> Callable[..., Any]:
    """Every request comes by here, those of a batch too."""

    @functools.wraps(infer)
    def checked(app: Any, request: dict[str, Any], datastore: Any = None) -> Any:
        request = take_original(request)
        models = app._infers
        check_model(request.get("model"), models)
        check_device(request.get("device"))
        check_parameters(request, models[request["model"]].config())
        folders = [Path(app.studies), Path(tempfile.gettempdir())]
        if app.sessions() is not None:
            folders.append(Path(app.sessions().store_path))
        ids = (datastore or app.datastore()).list_images()
        check_image(request.get("image"), ids, folders)
        result = infer(app, request, datastore)
        if request.get("adapt") is not False:
            note(datastore or app.datastore(), request["image"], result.get("params") or {})
        return result

    return checked


def _with_worklist(make: Callable[..., None]) -> Callable[..., None]:
    """The app comes by here once, when the server starts."""

    @functools.wraps(make)
    def extended(app: Any, *args: Any, **more: Any) -> None:
        make(app, *args, **more)
        extend_app(app)
        os.environ.setdefault(REPORTS_FOLDER, str(Path(app.app_dir).absolute() / "reports"))

    return extended


def _show_page(path: str) -> Any:
    """Show a report's file: a page, its index, or a small picture."""
    from fastapi.responses import FileResponse, JSONResponse  # noqa: PLC0415

    file = Path(os.environ[REPORTS_FOLDER]) / path
    if PAGE.fullmatch(path) and file.is_file():
        return FileResponse(file)
    return JSONResponse({"detail": "there is no such report; segment the study first."}, 404)


def _with_checked_file(keep: Callable[..., Any], *, has_tag: bool = False) -> Callable[..., Any]:
    """Every file that is kept comes by here: an image, or a label under its tag, a folder."""

    @functools.wraps(keep)
    def checked(datastore: Any, name: str, file: str, *more: Any) -> Any:
        kept = name or Path(file).name
        check_upload(kept, file)
        if has_tag:
            check_upload(str(more[0]), file)
        check_info(more[-1])
        check_no_link(_find_folder(datastore, *(more[:1] if has_tag else ())), kept)
        return keep(datastore, name, file, *more)

    return checked


def _with_checked_name(remove: Callable[..., Any]) -> Callable[..., Any]:
    """Every image and label that is removed comes by here."""

    @functools.wraps(remove)
    def checked(datastore: Any, name: str, *tag: str) -> Any:
        check_no_link(_find_folder(datastore, *tag), name)
        return remove(datastore, name, *tag)

    return checked


def _with_checked_info(update: Callable[..., Any]) -> Callable[..., Any]:
    """What is said of an image or label comes by here; it is the last argument."""

    @functools.wraps(update)
    def checked(datastore: Any, *arguments: Any) -> Any:
        check_info(arguments[-1])
        return update(datastore, *arguments)

    return checked


def _find_folder(datastore: Any, tag: str = "") -> Path:
    store = datastore._datastore
    return Path(store.label_path(tag) if tag else store.image_path())


def _refuse_raw_label(*_: Any) -> None:
    """Take the place of what would read the study in this process, without its limits."""
    raise DatasetError("label must be an image, it is raw bytes (.bin). Send NIfTI or NRRD.")


def _with_overlay(load: Callable[..., Any]) -> Callable[..., Any]:
    """Every bundle comes by here once, when the server starts."""

    @functools.wraps(load)
    def opened(task: Any, path: str, config: str) -> Any:
        if not (Path(path) / "configs" / "label.json").is_file():
            return load(task, path, config)
        from grata_monai.bundle.open import read_configuration  # noqa: PLC0415  # needs MONAI
        from grata_monai.bundle.verify import verify_bundle  # noqa: PLC0415

        verify_bundle(path)  # the configuration asks for it again with every request
        return read_configuration(path, ("label",))

    return opened


def __getattr__(name: str) -> Any:
    """Make ``app`` when the server asks for it: this module can be imported without MONAI Label."""
    if name == "app":
        return make_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
