"""MONAI Label's own server, which tells its clients why, and web pages of other origins nothing.

For ``--uvicorn_app grata_monai.label.server:app``. Without it, clients see a bare "Internal Server
Error", with the reason in the server's log only; and any web page that the user of this machine has
open may read what the server answers (CORS ``*``; MONAI Label 0.8.5 cannot start with its own
setting for that, MONAI_LABEL_CORS_ORIGINS).
"""

import logging
from typing import Any

from grata_monai.errors import CaseError, DatasetError, GrataError, RecipeError, find_cause

__all__ = ["describe_error", "make_app"]

logger = logging.getLogger(__name__)

REFUSED = 422  # what was asked for cannot be done
FAILED = 500


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


def make_app() -> Any:
    """Take MONAI Label's application, let it answer our errors, and close it to other origins.

    Returns:
        An ASGI application; the same object every time.

    Raises:
        ModuleNotFoundError: If MONAI Label is not installed.
    """
    from fastapi.middleware.cors import CORSMiddleware  # noqa: PLC0415  # only beside MONAI Label
    from fastapi.responses import JSONResponse  # noqa: PLC0415
    from monailabel.app import app  # noqa: PLC0415

    async def answer(request: Any, error: Exception) -> Any:
        cause = find_cause(error)
        if cause is None:
            raise error
        status, content = describe_error(cause)
        logger.error("request refused: %s", content["detail"])
        return JSONResponse(content, status_code=status)

    app.user_middleware = [m for m in app.user_middleware if m.cls is not CORSMiddleware]
    app.add_exception_handler(GrataError, answer)
    app.add_exception_handler(RuntimeError, answer)  # MONAI wraps what a component raises
    return app


def __getattr__(name: str) -> Any:
    """Make ``app`` when the server asks for it: this module can be imported without MONAI Label."""
    if name == "app":
        return make_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
