"""One folder of DICOM files, step by step: look through it, segment a case, write a case."""

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from grata_monai.bundle.open import Bundle
from grata_monai.core.errors import BundleError, SettingError
from grata_monai.core.failures import CaseFailure
from grata_monai.core.files import ensure_writable
from grata_monai.hosts.python import predict_case
from grata_monai.hosts.python_dicom import DicomRun, collect_run, open_dicom
from grata_monai.read.dicom.cases import list_volumes
from grata_monai.read.dicom.triage import Triage
from grata_monai.record import Record
from grata_monai.record.sentences import summarise_record
from grata_monai.write.dicom.refused import CODES, list_barred, write_refused

__all__ = ["Job", "find_bundle"]

logger = logging.getLogger(__name__)

CONFIGS = ("inference.json", "dicom.json")
PARTS = ("preprocessing", "network", "inferer", "postprocessing", "writer")
NOT_TO_BE_SET = ("dataset_dir", "destination", "output_dir", "source")


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
        SettingError: If a setting has no id of the configuration, or is not for you to set.
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
        _check_settings(settings or {})
        self.bundle = open_dicom(
            input_dir,
            output_dir,
            bundle_dir=find_bundle(bundle_dir),
            settings=settings,
            unverified=unverified,
        )
        ensure_writable(self.output_dir)

    @cached_property
    def found(self) -> Triage:
        """What triage accepted and refused."""
        found: Triage = self.bundle.get("triage")
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
        for part in PARTS:
            self.bundle.get(part)  # what cannot be built ends the run, not a case of it
        item: dict[Any, Any] | None = self._try(case["case"], lambda: _segment(case, self.bundle))
        return item

    def write(self, item: Mapping[Any, Any]) -> Path | None:
        """Write the folder of one case, whole or not at all.

        Args:
            item: By `segment`.

        Returns:
            The folder; None if it could not be written, which is noted.
        """
        written = self._try(str(item["case"]), lambda: self.bundle.writer(item))
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
        allowed = self.bundle.get("allow_refused")
        barred = list_barred(self.found, self.failures, allow_refused=allowed)
        return not barred and all(failure.reason in CODES for failure in self.failures)

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


def _segment(case: Mapping[str, str], bundle: Bundle) -> dict[Any, Any]:
    prepared = bundle.preprocessing(dict(case))
    return dict(bundle.postprocessing(predict_case(prepared, bundle)))


def _check_settings(settings: Mapping[str, Any]) -> None:
    for key in settings:
        if key.split("#")[0].split("::")[0] in NOT_TO_BE_SET:
            raise SettingError(
                f"a setting must be an id of the configuration that is yours to set, got {key!r}. "
                "The host says what comes in and goes out: use INPUT and OUTPUT."
            )
