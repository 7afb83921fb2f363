"""MONAI Label's own server, which reads our bundle's ``label.json`` too, with three gaps closed.

Used with ``--uvicorn_app grata_monai.hosts.label.server:app``.

MONAI Label 0.8.5 alone

- runs a client's ``device`` that begins with ``$`` as Python, since it writes it into the bundle's
  configuration. Here only names of devices pass;
- lets any web page that the user of this machine has open read what it answers (CORS ``*``; it
  cannot start with its own setting for that, MONAI_LABEL_CORS_ORIGINS). Here none can;
- answers a refusal with a bare "Internal Server Error". Here clients get the reason.

It also reads ``inference.json`` alone, unverified. Here a bundle that has an overlay ``label.json``
is held to its manifest, then read with it: options for the client, and an answer with the record.
"""

import functools
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grata_monai.core.errors import CaseError, DatasetError, GrataError, RecipeError, find_cause

__all__ = ["check_device", "describe_error", "make_app"]

logger = logging.getLogger(__name__)

REFUSED = 422  # what was asked for cannot be done
FAILED = 500
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


def make_app() -> Any:
    """Take MONAI Label's application and close its gaps.

    Returns:
        An ASGI application; the same object every time.

    Raises:
        ModuleNotFoundError: If MONAI Label is not installed.
    """
    from fastapi.middleware.cors import CORSMiddleware  # noqa: PLC0415  # only beside MONAI Label
    from fastapi.responses import JSONResponse  # noqa: PLC0415
    from monailabel.app import app  # noqa: PLC0415
    from monailabel.interfaces.app import MONAILabelApp  # noqa: PLC0415
    from monailabel.tasks.infer.bundle import BundleInferTask  # noqa: PLC0415

    async def answer(request: Any, error: Exception) -> Any:
        cause = find_cause(error)
        if cause is None:
            raise error
        status, content = describe_error(cause)
        logger.error("request refused: %s", content["detail"])
        return JSONResponse(content, status_code=status)

    if not hasattr(MONAILabelApp.infer, "__wrapped__"):
        MONAILabelApp.infer = _with_checked_device(MONAILabelApp.infer)
        BundleInferTask._load_bundle_config = _with_overlay(BundleInferTask._load_bundle_config)
    app.user_middleware = [m for m in app.user_middleware if m.cls is not CORSMiddleware]
    app.add_exception_handler(GrataError, answer)
    app.add_exception_handler(RuntimeError, answer)  # MONAI wraps what a component raises
    return app


def _with_checked_device(infer: Callable[..., Any]) -> Callable[..., Any]:
    """Every request comes by here, those of a batch too."""

    @functools.wraps(infer)
    def checked(app: Any, request: dict[str, Any], datastore: Any = None) -> Any:
        check_device(request.get("device"))
        return infer(app, request, datastore)

    return checked


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
