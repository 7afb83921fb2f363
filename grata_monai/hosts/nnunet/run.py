"""Run an nnU-Net over everything that was given, adapted to each case."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Engine

from grata_monai.core.errors import DatasetError, RecipeError, SettingError
from grata_monai.core.failures import CaseFailure, list_failures, report_failure
from grata_monai.core.files import ensure_writable
from grata_monai.handlers import GraTaHandler
from grata_monai.hosts.nnunet.sources import Images, Source
from grata_monai.nnunet.cases import list_cases, refuse_nothing
from grata_monai.nnunet.folder import ModelFolder
from grata_monai.nnunet.options import Options
from grata_monai.nnunet.predictor import GraTaPredictor
from grata_monai.read.dicom.discover import holds_dicom
from grata_monai.report import ReportHandler
from grata_monai.write.resume import list_pending, run_cases

if TYPE_CHECKING:
    from grata_monai.read.dicom.rejection import Rejection

__all__ = ["Asked", "Done", "run_nnunet"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """What somebody asked for.

    Attributes:
        path: A folder of images, one image, or DICOM files in any tree.
        output_dir: For results.
        options: How to predict.
        only_dicom: Refuse images.
        orientation: Of DICOM series, see `Series`.
        segments: Of DICOM objects: a JSON file as `read_segments` reads it; None to find codes by
            the labels' names.
        again: Do again what is done.
    """

    path: Path
    output_dir: Path
    options: Options
    only_dicom: bool = False
    orientation: str = ""
    segments: Path | None = None
    again: bool = False


@dataclass
class Done:
    """What became of it.

    Attributes:
        segmented: How many cases were segmented now.
        before: How many an earlier run of the same command had done.
        failures: Cases that failed.
        refusals: DICOM series that were refused.
    """

    segmented: int = 0
    before: int = 0
    failures: list[CaseFailure] = field(default_factory=list)
    refusals: tuple["Rejection", ...] = ()


def run_nnunet(folder: ModelFolder, asked: Asked) -> Done:
    """Segment every case with a trained network.

    Args:
        folder: The network.
        asked: What to segment, where to, and how.

    Returns:
        What became of the cases.

    Raises:
        DatasetError: If there is nothing to segment, or results would lie among the input.
        GrataError: If network, recipe or output folder are refused.
        KeyboardInterrupt: Saying how far it came, after Ctrl-C.
    """
    path = asked.path.expanduser()
    cases = list_cases(path, folder.ending) if path.exists() else []
    has_dicom = holds_dicom(path)
    if not cases and not has_dicom:
        refuse_nothing(path, folder.ending)
    _check(asked, folder, path, has_images=bool(cases), has_dicom=has_dicom)
    if asked.options.recipe.memory == "online":
        raise RecipeError(
            "recipe must start every case at the trained weights here, got memory='online'. "
            "Use memory='episodic'."
        )
    ensure_writable(asked.output_dir)
    predictor, done = GraTaPredictor(folder, asked.options), Done()
    if cases:
        reader = predictor.plans_manager.image_reader_writer_class()
        _run(predictor, Images(folder, reader, asked.output_dir), cases, asked, done)
    if has_dicom:
        _run_dicom(predictor, folder, asked, done)
    return done


def _check(
    asked: Asked, folder: ModelFolder, path: Path, *, has_images: bool, has_dicom: bool
) -> None:
    if asked.only_dicom and has_images:
        raise SettingError(
            "--dicom must have DICOM series only, IN holds images: a DICOM object needs the "
            "patient and study of a series. Leave it out, or point -i to the series."
        )
    if has_dicom and len(folder.channels) > 1:
        names = ", ".join(folder.channels.values())
        raise SettingError(
            f"the network must take one channel where DICOM series are given, it takes {names}. "
            f"Register them, and write files <case>_0000{folder.ending}, <case>_0001 and so on."
        )
    if path.is_dir() and asked.output_dir.resolve().is_relative_to(path.resolve()):
        raise DatasetError(
            "OUT must lie outside of IN, it lies inside: masks would be found as images the next "
            "time. Choose another -o."
        )


def _run_dicom(predictor: GraTaPredictor, folder: ModelFolder, asked: Asked, done: Done) -> None:
    from grata_monai.hosts.nnunet.series import Series  # noqa: PLC0415  # needs the extra dicom
    from grata_monai.read.dicom.cases import list_volumes, triage_dataset  # noqa: PLC0415
    from grata_monai.write.dicom.coded_concepts import (  # noqa: PLC0415
        name_segments,
        read_segments,
    )
    from grata_monai.write.dicom.refused import write_refused  # noqa: PLC0415

    is_ct = any("CT" in name for name in predictor.configuration_manager.normalization_schemes)
    found = triage_dataset(
        str(asked.path),
        selection={"modality": ["CT"]} if is_ct else {},
        output_dir=str(asked.output_dir),
    )
    segments = read_segments(asked.segments) if asked.segments else name_segments(folder.labels)
    reorients = "Reorient" in str(folder.plans.get("image_reader_writer"))
    orientation = asked.orientation or ("RAS" if reorients else "")
    source = Series(found, segments, asked.output_dir, orientation)
    known = len(done.failures)
    write_refused(found, asked.output_dir)
    _run(predictor, source, list_volumes(found), asked, done, found=found)
    write_refused(found, asked.output_dir, done.failures[known:])
    done.refusals = found.rejections


def _run(
    predictor: GraTaPredictor,
    source: Source,
    cases: Sequence[Mapping[str, Any]],
    asked: Asked,
    done: Done,
    *,
    found: Any = None,
) -> None:
    """Run the cases that are not done yet, alone in the output folder."""
    options = asked.options
    profile = predictor.inferer.profile
    settings = [options.method, options.step_size, options.is_mirrored, asked.orientation]
    settings += [] if profile is None else [profile.to_json()]
    pending = list_pending(
        cases,
        output_dir=str(asked.output_dir),
        inferer=predictor.inferer,
        network=predictor.network,
        settings=json.dumps([*settings, predictor.inferer.bundle], default=repr),
        volumes=() if found is None else found.volumes,
        again=asked.again,
        has_reports=True,
    )
    refusals = () if found is None else found.rejections
    engine = _CaseEngine(predictor, source, pending)
    GraTaHandler(len(pending), refusals=refusals).attach(engine)
    names = {str(number): name for number, name in predictor.names.items()}
    ReportHandler(str(asked.output_dir), names=names, refusals=refusals).attach(engine)
    run_cases(engine, cases=cases, pending=pending, output_dir=str(asked.output_dir))
    failures = list_failures(engine)
    done.failures += failures
    done.before += len(cases) - len(pending)
    done.segmented += len(pending) - len(failures)


class _CaseEngine(Engine):
    """An engine over cases, as MONAI's handlers listen to it; one that fails stops no other."""

    def __init__(
        self, predictor: GraTaPredictor, source: Source, cases: Sequence[Mapping[str, Any]]
    ) -> None:
        super().__init__(self._process)
        self.predictor, self.source, self.cases = predictor, source, cases

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run over all cases once."""
        return super().run(self.cases, max_epochs=1)

    def _process(self, engine: Engine, case: Mapping[str, Any]) -> list[dict[str, Any]]:
        try:
            voxels, properties = self.source.read(case)
            done = self.predictor.segment(voxels, properties)
            items = [self.source.write(case, voxels, done)]
        except Exception as error:
            logger.debug("case %s failed", case["case"], exc_info=True)
            report_failure(engine, CaseFailure.explain(case["case"], error))
            items = []
        state: Any = self.state
        state.batch = items
        return items
