"""The MONAI model zoo's own checks, without a network connection.

Unlike the rules, these build what the bundle describes: its configuration runs. They are for
bundles that passed every rule.
"""

import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out

from grata_monai.bundle.verify import METADATA

__all__ = ["Check", "run_zoo_checks"]

FILES = ("LICENSE", METADATA, "models/model.pt")
CONFIGS = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")


@dataclass(frozen=True)
class Check:
    """One check of the zoo.

    Attributes:
        name: Of the check.
        outcome: ``passed``, ``failed`` or ``skipped``.
        reason: Why it failed or was skipped; else empty.
    """

    name: str
    outcome: str
    reason: str = ""

    def __str__(self) -> str:
        """Write it in one line."""
        return f"{self.outcome}: {self.name}" + (f" ({self.reason})" if self.reason else "")


class _Skip(Exception):  # noqa: N818  # no error: the reason why a check is skipped
    pass


def run_zoo_checks(root: Path, *, schema: Path | None = None) -> list[Check]:
    """Run the zoo's checks on a bundle that passed every rule.

    Args:
        root: Of the bundle. Nothing is written there.
        schema: A copy of the schema that the metadata name; the zoo downloads it, we do not.

    Returns:
        What passed, what failed, what was skipped; in this order of running.
    """
    folder = root.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        checks: list[tuple[str, Callable[[], None]]] = [
            ("structure", lambda: _check_structure(folder)),
            ("version in changelog", lambda: _check_changelog(folder)),
            ("metadata schema", lambda: _check_schema(folder, schema)),
            ("verify_net_in_out", lambda: _check_network(folder)),
            ("ckpt_export", lambda: _check_export(folder, place)),
            ("check_properties", lambda: _check_properties(folder, place)),
        ]
        with _silence():
            return [_run(name, check) for name, check in checks]


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what MONAI and TorchScript say to themselves out of the report, standard output too."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # MONAI's log handlers hold on to standard output
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _run(name: str, check: Callable[[], None]) -> Check:
    try:
        check()
    except _Skip as reason:
        return Check(name, "skipped", str(reason))
    except Exception as error:
        message = " ".join(str(error).split())
        return Check(name, "failed", f"{type(error).__name__}: {message[:300]}")
    return Check(name, "passed")


def _check_structure(folder: Path) -> None:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"missing: {', '.join(missing)}")
    _find_config(folder)


def _check_changelog(folder: Path) -> None:
    metadata = _read_metadata(folder)
    if metadata["version"] not in metadata["changelog"]:
        raise ValueError(f"the changelog does not have version {metadata['version']!r}")


def _check_schema(folder: Path, schema: Path | None) -> None:
    if schema is None:
        raise _Skip("the schema lies on the internet; give a copy of it with --schema")
    try:
        from jsonschema import validate  # noqa: PLC0415  # optional
    except ModuleNotFoundError:
        raise _Skip("jsonschema is not installed") from None
    validate(_read_metadata(folder), json.loads(schema.read_text(encoding="utf-8")))


def _check_network(folder: Path) -> None:
    verify_net_in_out(
        "network_def",
        meta_file=str(folder / METADATA),
        config_file=str(_find_config(folder)),
        device="cpu",
    )


def _check_export(folder: Path, temporary: Path) -> None:
    ckpt_export(
        "network_def",
        filepath=str(temporary / "model.ts"),
        ckpt_file=str(folder / "models" / "model.pt"),
        meta_file=str(folder / METADATA),
        config_file=str(_find_config(folder)),
    )
    if not (temporary / "model.ts").is_file():
        raise FileNotFoundError("nothing was exported")


def _check_properties(folder: Path, temporary: Path) -> None:
    """Build the whole workflow; what it writes, a phantom for instance, goes elsewhere."""
    workflow = ConfigWorkflow(str(_find_config(folder)), workflow_type="infer", logging_file=False)
    if "output_dir" in workflow.parser:
        workflow.parser["output_dir"] = str(temporary / "output")
    workflow.initialize()
    missing = workflow.check_properties()
    if missing:
        raise ValueError(f"missing or misnamed: {', '.join(missing)}")


def _find_config(folder: Path) -> Path:
    found = [folder / name for name in CONFIGS if (folder / name).is_file()]
    if not found:
        raise FileNotFoundError(f"missing: {CONFIGS[0]} or .yaml")
    return found[0]


def _read_metadata(folder: Path) -> Any:
    return json.loads((folder / METADATA).read_text(encoding="utf-8"))
