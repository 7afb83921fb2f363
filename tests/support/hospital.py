"""A scanner, an archive and small series for the service's tests."""

import random
import socket
import tempfile
from collections import Counter, defaultdict
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    MRImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
)

from grata_monai.service.spool import Spool

PLANTED = "PLANTED^NAME"
TITLE, SCANNER, ARCHIVE = "GRATA", "SCANNER", "ARCHIVE"
REAL = ("SOURCE", "CLINICAL")
"""Titles whose series are segmented by the shipped network, also under fire."""


@dataclass
class Sent:
    """A series of the replay.

    Attributes:
        instances: To send, in order.
        end: How it must end.
        late: How many of them are sent after the others were complete.
        twice: Whether one is sent twice.
        called: AE title that it is sent to.
        is_kept: Whether the service has taken every instance.
    """

    instances: list[Dataset]
    end: str = "delivered"
    late: int = 0
    twice: bool = False
    called: str = TITLE
    is_kept: bool = False

    @property
    def uid(self) -> str:
        return str(self.instances[0].SeriesInstanceUID)

    @property
    def key(self) -> str:
        return Spool.name(self.called, self.uid)

    @property
    def study(self) -> str:
        return str(self.instances[0].StudyInstanceUID)


class Peers:
    """A scanner that counts its instances, and an archive that may be down.

    Attributes:
        counts: Instances of each series, as the scanner answers.
        stored: How often each object of a study came to the archive.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.stored: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.count_port, self.archive_port = free_port(), free_port()
        counter = AE(SCANNER)
        counter.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        self._counter: Any = counter.start_server(
            ("127.0.0.1", self.count_port),
            block=False,
            evt_handlers=[(evt.EVT_C_FIND, self._find)],
        )
        self._archive: Any = None
        self.open_archive()

    def open_archive(self) -> None:
        archive = AE(ARCHIVE)
        archive.add_supported_context(SegmentationStorage)
        self._archive = archive.start_server(
            ("127.0.0.1", self.archive_port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store)],
        )

    def close_archive(self) -> None:
        self._archive.shutdown()

    def close(self) -> None:
        self._archive.shutdown()
        self._counter.shutdown()

    def _find(self, event: Any) -> Any:
        answer = Dataset()
        answer.QueryRetrieveLevel = "SERIES"
        answer.NumberOfSeriesRelatedInstances = self.counts.get(
            str(event.identifier.SeriesInstanceUID), 0
        )
        yield 0xFF00, answer
        yield 0x0000, None

    def _store(self, event: Any) -> int:
        study = str(event.dataset.StudyInstanceUID)
        self.stored[study][str(event.request.AffectedSOPInstanceUID)] += 1
        return 0x0000


def make_series(number: int, *, slices: int = 2, wish: str = "", **options: Any) -> Sent:
    """Make a small series; its patient's name is planted."""
    study, series = generate_uid(), generate_uid()
    pixels = np.full((8, 8), number % 1000, np.uint16)
    instances = []
    for index in range(slices):
        each = Dataset()
        each.SOPClassUID, each.SOPInstanceUID = MRImageStorage, generate_uid()
        each.StudyInstanceUID, each.SeriesInstanceUID = study, series
        each.PatientName, each.PatientID = PLANTED, f"{PLANTED}{number}"
        each.Modality, each.Manufacturer, each.SeriesDescription = "MR", "Phantom", wish
        each.InstanceNumber = index + 1
        each.ImagePositionPatient = [0, 0, index * 3]
        each.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        each.PixelSpacing, each.SliceThickness = [1, 1], 3
        each.Rows, each.Columns, each.SamplesPerPixel = 8, 8, 1
        each.BitsAllocated, each.BitsStored, each.HighBit = 16, 16, 15
        each.PixelRepresentation, each.PhotometricInterpretation = 0, "MONOCHROME2"
        each.PixelData = pixels.tobytes()
        each.file_meta = FileMetaDataset()
        each.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        instances.append(each)
    return Sent(instances, **options)


def make_week(count: int, seed: int, *, real: float = 0.0) -> list[Sent]:
    """Series of a replay: a few to refuse or to fail, late slices, duplicates.

    Args:
        count: How many.
        seed: Of what they are.
        real: Share of small phantoms, which can be segmented; half of them for each of `REAL`.
    """
    draw = random.Random(seed)
    phantom = _make_phantom() if real else []
    found = []
    for number in range(count):
        if phantom and draw.random() < real:
            found.append(Sent(_rename(phantom), called=draw.choice(REAL)))
            continue
        wish, end = draw.choices(
            [("", "delivered"), ("REFUSE", "refused"), ("FAIL", "quarantined")], [96, 3, 1]
        )[0]
        late = int(not wish and draw.random() < 0.02)
        twice = draw.random() < 0.03
        found.append(make_series(number, wish=wish, end=end, late=late, twice=twice))
    return found


def make_phantoms(count: int, called: str = TITLE) -> list[Sent]:
    """Small phantoms that can be segmented, each of a patient of its own."""
    phantom = _make_phantom()
    return [Sent(_rename(phantom), called=called) for _ in range(count)]


def _make_phantom() -> list[Dataset]:
    """Instances of a small phantom."""
    from grata_monai.phantom import make_case
    from grata_monai.phantom.dicom import SeriesOptions, write_series

    case = make_case(0, spacing=(4.0, 4.0, 6.0), spatial_shape=(32, 32, 8))
    image = np.asarray(case.image).reshape(32, 32, 8)
    image = np.round(1000 * (image - image.min()) / np.ptp(image)).astype(np.int16)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_series(place, image, np.asarray(case.affine_ras), options=SeriesOptions(seed=21))
        return [dcmread(file) for file in sorted(place.rglob("*.dcm"))]


def _rename(instances: list[Dataset]) -> list[Dataset]:
    """The same images as another patient's series."""
    copies = deepcopy(instances)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for each in copies:
        each.StudyInstanceUID, each.SeriesInstanceUID = study, series
        each.FrameOfReferenceUID, each.SOPInstanceUID = frame, generate_uid()
        each.file_meta.MediaStorageSOPInstanceUID = each.SOPInstanceUID
        each.PatientName = PLANTED
    return copies


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
