"""What `python -m monai.bundle run` asks: where the bundle lies, whether it is verified, errors."""

import inspect
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.bundle import ConfigWorkflow

from grata_monai.bundle.verify import not_verified, verify_bundle
from grata_monai.core.errors import find_cause

__all__ = ["find_bundle_root", "report_errors_in_one_line", "verify_own_bundle"]


def find_bundle_root() -> str:
    """Find the bundle whose configuration is being parsed.

    MONAI does not tell a configuration where it lies, so that ``bundle_root: "."`` works from one
    folder only (model-zoo#466, MONAI#6722). The workflow that is parsing knows; it is looked up on
    the call stack. Hosts that set ``bundle_root`` themselves never come here.

    Returns:
        Absolute path of the bundle; the current folder if no workflow is being parsed.
    """
    frame = inspect.currentframe()
    while frame is not None:
        workflow = frame.f_locals.get("self")
        if isinstance(workflow, ConfigWorkflow):
            root = Path(workflow.config_root_path).resolve()
            return str(root.parent if root.name == "configs" else root)
        frame = frame.f_back
    return str(Path.cwd())


def verify_own_bundle(bundle_root: str, *, unverified: bool = False) -> dict[str, Any]:
    """Hold the bundle whose configuration is being resolved to its manifest.

    The configuration itself has been parsed then, so that this finds damage and changes that its
    author did not mean to hide; `python -m grata_monai lint` is what looks before.

    Args:
        bundle_root: The bundle's folder. Hosts that neither tell it nor run a workflow leave some
            other folder here, without ``configs``: then nothing can be verified.
        unverified: Verify nothing, for those who are changing the bundle.

    Returns:
        As `verify_bundle`, for the record.

    Raises:
        BundleError: If a file differs, is missing or is not listed.
    """
    if not unverified and not (Path(bundle_root) / "configs").is_dir():
        return not_verified("the host does not say where the bundle lies")
    return verify_bundle(bundle_root, unverified=unverified)


def report_errors_in_one_line() -> None:
    """Print grata_monai's own errors as one line instead of MONAI's chain of tracebacks.

    Called by the configuration's `initialize`. Only the process's `sys.excepthook` changes, so
    Python callers still catch the exceptions.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        cause = find_cause(error)
        if cause is None:
            previous(kind, error, trace)
        else:
            message = " ".join(str(cause).split())
            sys.stderr.write(f"error: {type(cause).__name__}: {message}\n")

    sys.excepthook = hook
