"""What `python -m monai.bundle run` asks: where the bundle lies, whether it may run, errors."""

import hashlib
import inspect
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from grata_monai.bundle.authority import check_authority
from grata_monai.bundle.settings import check_setting
from grata_monai.bundle.verify import not_verified, verify_bundle
from grata_monai.core.errors import find_cause
from grata_monai.core.verified import Verified

__all__ = [
    "check_given_settings",
    "check_running_bundle",
    "find_bundle_root",
    "find_profile",
    "hash_configuration",
    "report_errors_in_one_line",
    "verify_own_bundle",
]

OF_THE_RUN = {*inspect.signature(ConfigWorkflow).parameters, "args_file", "workflow_name"}
"""Arguments of MONAI's run that are no ids."""

PLACES = {
    *("_meta_", "again", "allow_refused", "bundle_root", "dataset_dir", "destination", "device"),
    *("only", "output_dir", "security", "source", "unverified", "verified"),
}
"""Ids that say where and when something runs, not what becomes of a case."""


def find_bundle_root() -> str:
    """Find the bundle whose configuration is being parsed.

    MONAI does not tell a configuration where it lies, so that ``bundle_root: "."`` works from one
    folder only (model-zoo#466, MONAI#6722). The workflow that is parsing knows; it is looked up on
    the call stack. Hosts that set ``bundle_root`` themselves never come here.

    Returns:
        Absolute path of the bundle; the current folder if no workflow is being parsed.
    """
    root = _running_root()
    return str(Path.cwd() if root is None else root)


def find_profile(bundle_root: str) -> str | None:
    """Find the source profile of a bundle.

    Args:
        bundle_root: The bundle's folder.

    Returns:
        Path of ``models/profile.json``; None without one, as where a host does not say where the
        bundle lies. That a verified bundle still has its profile, its manifest says.
    """
    path = Path(bundle_root) / "models" / "profile.json"
    return str(path) if path.is_file() else None


def hash_configuration(bundle_root: str) -> str:
    """Name the settings of the configuration that is being resolved, as far as cases depend on it.

    What a configuration is made of cannot be told from what it builds; so the text of all its ids
    counts but `PLACES`, with the bundle's metadata, which say what the segments mean. A setting
    that is not plain data counts as another in every process.

    Args:
        bundle_root: The bundle's folder.

    Returns:
        SHA-256; empty if no configuration is being resolved.
    """
    callers = (frame.f_locals.get("self") for frame in _frames())
    parser = next((caller for caller in callers if isinstance(caller, ConfigParser)), None)
    if parser is None:
        return ""
    content = {id: value for id, value in parser.get().items() if id not in PLACES}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode())
    metadata = Path(bundle_root) / "configs" / "metadata.json"
    if metadata.is_file():
        digest.update(metadata.read_bytes())
    return digest.hexdigest()


def check_running_bundle() -> None:
    """Hold the bundle that `python -m monai.bundle run` is running to what it may decide.

    For what reaches out of the process: a bundle that took the check out of its own configuration
    is found here. Hosts that open the bundle by `open_bundle` have checked it.

    Raises:
        BundleError: If its own files say what only the operator may.
    """
    root = _running_root()
    if root is not None:
        check_authority(root)


def check_given_settings() -> None:
    """Refuse what was given on the command line of MONAI's run and would change nothing.

    MONAI adds a mistyped ``--datasetdir`` to the configuration, where nothing reads it. Called by
    the configuration's `initialize`, before any work. From here on, MONAI's log leaves out what was
    given: folders may name patients.

    Raises:
        SettingError: If an id is not in the configuration files; the nearest one is named.
    """
    logging.getLogger("monai.bundle.scripts").addFilter(_names_no_input)
    given = _given_on_the_command_line()
    if not given.get("config_file"):
        return
    config: dict[str, Any] = ConfigParser.load_config_files(given["config_file"])
    if given.get("tracking"):
        config = {**DEFAULT_EXP_MGMT_SETTINGS["mlflow"]["configs"], **config}  # type: ignore[dict-item]
    for id in given.keys() - OF_THE_RUN:
        check_setting(id, config, found_out=("verified",))


def verify_own_bundle(bundle_root: str, *, unverified: bool = False) -> Verified:
    """Hold the bundle whose configuration is being resolved to its manifest and its authority.

    The configuration itself has been parsed then, so that this finds damage and changes that its
    author did not mean to hide; `python -m grata_monai lint` is what looks before.

    Args:
        bundle_root: The bundle's folder. Hosts that neither tell it nor run a workflow leave some
            other folder here, without ``configs``: then nothing can be verified.
        unverified: Verify nothing, for those who are changing the bundle.

    Returns:
        As `verify_bundle`, for the record.

    Raises:
        BundleError: If a file differs, is missing or is not listed; or if the bundle's own files
            say what only the operator may.
    """
    if not unverified and not (Path(bundle_root) / "configs").is_dir():
        return not_verified("the host does not say where the bundle lies")
    verified = verify_bundle(bundle_root, unverified=unverified)
    check_authority(Path(bundle_root))
    return verified


def report_errors_in_one_line() -> None:
    """Print our own errors and Ctrl-C as one line instead of MONAI's chain of tracebacks.

    Called by the configuration's `initialize`. Only the process's `sys.excepthook` changes, so
    Python callers still catch the exceptions.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        cause = find_cause(error)
        if issubclass(kind, KeyboardInterrupt):
            done = str(error) or "every case whose record is written is done"
            sys.stderr.write(f"stopped: {done}\n")
        elif cause is None:
            previous(kind, error, trace)
        else:
            message = " ".join(str(cause).split())
            sys.stderr.write(f"error: {type(cause).__name__}: {message}\n")

    sys.excepthook = hook


def _names_no_input(record: logging.LogRecord) -> bool:
    """Leave out MONAI's lines ``> id: value``, of what it was called with."""
    return not record.getMessage().startswith("> ")


def _frames() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _running_root() -> Path | None:
    for frame in _frames():
        workflow = frame.f_locals.get("self")
        if isinstance(workflow, ConfigWorkflow):
            root = Path(workflow.config_root_path).resolve()
            return root.parent if root.name == "configs" else root
    return None


def _given_on_the_command_line() -> dict[str, Any]:
    """Find what MONAI's `create_workflow` was called with; it initializes the workflow itself."""
    for frame in _frames():
        is_it = frame.f_globals.get("__name__") == "monai.bundle.scripts"
        if is_it and frame.f_code.co_name == "create_workflow":
            return {**frame.f_locals["_args"], "config_file": frame.f_locals["config_file"]}
    return {}
