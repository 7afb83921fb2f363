"""Segment series with bundles that are opened, and whose networks are loaded, once per process."""

import re
import time
from pathlib import Path
from typing import Any

import torch
from pydicom import dcmread

from grata_monai.adapt.scores import Quality
from grata_monai.bundle.open import Bundle
from grata_monai.bundle.shipped import find_shipped_bundle
from grata_monai.core.errors import CaseError, DatasetError
from grata_monai.hosts.python_dicom import DicomRun, open_dicom, run_dicom
from grata_monai.service.config import ServiceConfig
from grata_monai.service.ledger import Series
from grata_monai.service.parts import Route
from grata_monai.service.spool import Spool
from grata_monai.service.work import Outcome
from grata_monai.write.dicom.refused import CODES

__all__ = ["Segmenter"]

WORST_FIRST = (Quality.RED, Quality.AMBER, Quality.NONE, Quality.GREEN)
_SCANNER = re.compile(r"[^A-Za-z0-9 ._/-]")
LONGEST_SCANNER = 64


class Segmenter:
    """Segments series, each under the rule that it was accepted under.

    Args:
        config: Its routes' bundles are opened now, so that a bad one shows before a case comes.
        spool: Where series are, and results go.
        slot: Of this process; says which GPU it takes, where there are several.

    Raises:
        BundleError: If a bundle is not as its manifest says; nothing of it was parsed then.
        SettingError: If a setting has no id of the configuration.
    """

    def __init__(self, config: ServiceConfig, spool: Spool, *, slot: int = 0) -> None:
        self._spool = spool
        devices = torch.cuda.device_count()
        self._device = {"device#name": f"cuda:{slot % devices}"} if devices > 1 else {}
        self._bundles: dict[str, Bundle] = {}
        for route in config.routes:
            self._open(route.model_dump(mode="json"))

    def run(self, series: Series) -> Outcome:
        """Segment a series.

        Args:
            series: Its row.

        Returns:
            What it gave; what cannot be segmented is refused, by its reason codes.

        Raises:
            Exception: If it failed for another reason than the images.
        """
        began = time.monotonic()
        out = self._spool.results(series.key, series.edition)
        bundle = self._open(series.route)
        bundle.set({"dataset_dir": str(self._spool.series(series.key)), "output_dir": str(out)})
        try:
            run = run_dicom(bundle, out)
        except DatasetError as error:
            return Outcome(refused=type(error).__name__)
        return _judge(run, time.monotonic() - began, self._spool.series(series.key))

    def _open(self, route: dict[str, Any]) -> Bundle:
        """Open a route's bundle, and load its network, unless that was done before."""
        key = Route.model_validate(route).model_dump_json(include={"bundle", "recipe", "settings"})
        if key not in self._bundles:
            nowhere = self._spool.incoming
            bundle = open_dicom(
                nowhere,
                nowhere,
                bundle_dir=route["bundle"] or find_shipped_bundle(),
                settings={"recipe": route["recipe"], **self._device, **route["settings"]},
            )
            bundle.set({"network": bundle.network})  # stays when folders are set anew
            self._bundles[key] = bundle
        return self._bundles[key]


def _judge(run: DicomRun, seconds: float, files: Path) -> Outcome:
    """Say what a run over one series has come to.

    Raises:
        Exception: If a volume failed for another reason than its images.
    """
    codes = {rejection.reason.value for rejection in run.refusals}
    for failure in run.failures:
        if failure.reason not in CODES | _REFUSALS:
            raise RuntimeError(f"a volume must be segmented, one failed: {failure.reason}.")
        codes.add(failure.reason)
    if not run.results:
        return Outcome(refused=", ".join(sorted(codes)) or "nothing to segment", seconds=seconds)
    lights = {result.record.verdict.light for result in run.results}
    return Outcome(
        light=str(next(light for light in WORST_FIRST if light in lights)),
        scanner=_read_scanner(files),
        volumes=len(run.results),
        seconds=round(seconds, 2),
    )


_KINDS: list[type[CaseError]] = [CaseError, *CaseError.__subclasses__()]
_REFUSALS = {kind.__name__ for kind in _KINDS}


def _read_scanner(files: Path) -> str:
    """Manufacturer and model; nothing that could be more."""
    file = next(files.glob("*.dcm"))
    tags = ["Manufacturer", "ManufacturerModelName"]
    header = dcmread(file, stop_before_pixels=True, specific_tags=tags)
    text = " ".join(str(header.get(tag) or "") for tag in tags)
    return _SCANNER.sub("", text).strip()[:LONGEST_SCANNER]
