"""One folder of DICOM files, step by step: look through it, segment a case, write a case."""

import logging
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.transforms import Compose

from grata_monai.core.errors import BundleError, GrataError, find_cause, find_root
from grata_monai.core.failures import CaseFailure
from grata_monai.core.files import ensure_writable
from grata_monai.hosts.python import predict_case
from grata_monai.hosts.python_dicom import DicomRun, collect_run, open_dicom
from grata_monai.read.dicom.cases import list_volumes
from grata_monai.read.dicom.triage import Triage
from grata_monai.record import Record
from grata_monai.record.sentences import summarise_record
from grata_monai.write.dicom.refused import CODES, list_barred, write_refused
from grata_monai.write.dicom.save import SaveDicomd

__all__ = ["Job", "find_bundle"]

logger = logging.getLogger(__name__)

CONFIGS = ("inference.json", "dicom.json")
NOT_TO_BE_SET = (
    "verified",
    "unverified",
    "bundle_root",
    "dataset_dir",
    "destination",
    "output_dir",
    "source",
)


class Job:
    """What a graph of operators does with one folder of DICOM files.

    The bundle's configuration says how. A case that fails is noted, and the others go on. The
    network is built when the first case arrives.

    Args:
        input_dir: DICOM files, in any tree.
        output_dir: Where a folder per volume and ``refused.json`` are written.
        bundle_dir: The bundle, or a folder with one bundle in it.
        settings: Ids of the configuration and their values.
        unverified: Do not hold the bundle to its manifest; the record says so.

    Raises:
        BundleError: If there is no such bundle, or it is not as its manifest says.
        OutputError: If the output folder cannot be written.
        ValueError: If a setting has no id of the configuration, or is not for you to set.
    """

    def __init__(
        self,
        input_dir: str | Path,
        output_dir: str | Path,
        *,
        bundle_dir: str | Path,
        settings: Mapping[str, Any] | None = None,
        unverified: bool = False,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.failures: list[CaseFailure] = []
        self.parser = open_dicom(
            input_dir, output_dir, bundle_dir=find_bundle(bundle_dir), unverified=unverified
        )
        _apply(settings or {}, self.parser)
        ensure_writable(self.output_dir)

    @cached_property
    def found(self) -> Triage:
        """What triage accepted and refused."""
        found: Triage = _build(self.parser, "triage")
        return found

    def list_cases(self) -> list[dict[str, str]]:
        """Look through the folder, and write what is refused.

        Returns:
            One dictionary per accepted volume, as preprocessing takes it.

        Raises:
            DatasetError: If the folder does not exist or holds no DICOM file.
            ValueError: If a rule of the selection is wrong.
        """
        write_refused(self.found, self.output_dir)
        return list_volumes(self.found)

    def segment(self, case: Mapping[str, str]) -> dict[Any, Any] | None:
        """Prepare, adapt to and predict one case, and bring its mask back to the source grid.

        Args:
            case: One of `list_cases`.

        Returns:
            What the writer takes; None if the case failed, which is noted.
        """
        parts = self._parts
        item: dict[Any, Any] | None = self._try(case["case"], lambda: _segment(dict(case), parts))
        return item

    def write(self, item: Mapping[Any, Any]) -> Path | None:
        """Write the folder of one case, whole or not at all.

        Args:
            item: By `segment`.

        Returns:
            The folder; None if it could not be written, which is noted.
        """
        written = self._try(str(item["case"]), lambda: self._parts["writer"](item))
        if written is None:
            return None
        logger.info("%s: %s", item["case"], summarise_record(Record.from_json(written["grata"])))
        return Path(written["output_folder"])

    def finish(self) -> DicomRun:
        """Add to ``refused.json`` what could not be decoded, and collect what was done."""
        write_refused(self.found, self.output_dir, self.failures)
        return collect_run(self.found, self.failures, self.output_dir)

    def has_ended_well(self) -> bool:
        """Whether no case failed, and nothing was refused but what ``allow_refused`` allows."""
        allowed = _build(self.parser, "allow_refused")
        barred = list_barred(self.found, self.failures, allow_refused=allowed)
        return not barred and all(failure.reason in CODES for failure in self.failures)

    @cached_property
    def _parts(self) -> dict[str, Any]:
        """What the configuration builds; the last step of its postprocessing writes."""
        names = ("preprocessing", "inferer", "network", "device", "postprocessing")
        parts = {name: _build(self.parser, name) for name in names}
        *steps, writer = parts["postprocessing"].transforms
        if not isinstance(writer, SaveDicomd):
            raise BundleError(
                "the last transform of postprocessing must be SaveDicomd, it is "
                f"{type(writer).__name__}. Compare with the bundle's own dicom.json."
            )
        return {**parts, "postprocessing": Compose(steps), "writer": writer}

    def _try(self, case: str, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except Exception as error:  # whatever happened to this case must not stop the others
            logger.debug("case %s failed", case, exc_info=True)
            failure = CaseFailure.explain(case, error)
            logger.error("%s: %s: %s", case, failure.reason, failure.message)
            self.failures.append(failure)
            return None


def find_bundle(path: str | Path) -> Path:
    """Find the bundle where a host says that models are.

    In a MAP each model has a folder of its own in the models' folder.

    Args:
        path: The bundle, or a folder with one bundle in it.

    Returns:
        The bundle's root.

    Raises:
        BundleError: If there is none, or more than one.
    """
    root = Path(path)
    candidates = [root] if _is_bundle(root) else []
    if not candidates and root.is_dir():
        candidates = sorted(folder for folder in root.iterdir() if _is_bundle(folder))
    if len(candidates) != 1:
        raise BundleError(
            f"model must be a bundle with configs/{' and configs/'.join(CONFIGS)}, or a folder "
            f"with one of these in it, {root.name!r} has {len(candidates)}. Give the bundle's "
            "folder: --model BUNDLE, or HOLOSCAN_MODEL_PATH."
        )
    return candidates[0]


def _is_bundle(folder: Path) -> bool:
    return all((folder / "configs" / name).is_file() for name in CONFIGS)


def _build(parser: ConfigParser, name: str) -> Any:
    """Build one part of the configuration; raise our own refusal, not MONAI's wrapping of it."""
    try:
        return parser.get_parsed_content(name)
    except RuntimeError as error:
        cause = find_cause(error) or find_root(error)
        raise cause if isinstance(cause, GrataError | ValueError) else error from None


def _segment(case: dict[str, Any], parts: Mapping[str, Any]) -> dict[Any, Any]:
    prepared = parts["preprocessing"](case)
    item = predict_case(
        prepared, inferer=parts["inferer"], network=parts["network"], device=parts["device"]
    )
    return dict(parts["postprocessing"](item))


def _apply(settings: Mapping[str, Any], parser: ConfigParser) -> None:
    """Change the configuration; a name that it does not know would change nothing, in silence."""
    known = {str(key) for key in parser.get()} - {*NOT_TO_BE_SET}
    for key in settings:
        root = key.split("#")[0].split("::")[0].lstrip("+")
        if root not in known:
            near = get_close_matches(root, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Use one of {sorted(known)}."
            raise ValueError(f"a setting must be an id of the configuration, got {key!r}. {hint}")
    parser.update(dict(settings))
