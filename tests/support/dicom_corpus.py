"""Kinds of series that a hospital sends, good and defective, made from the phantom.

Each kind writes a folder and says what must become of it: the codes of the refusals, and the exact
volumes. `KINDS` is the whole list; ``docs/reference/dicom-corpus.md`` shows it.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    MPEG4HP41,
    UID,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import SeriesOptions, make_series, stored_volume, write_instances

SLICES = 8
SPACING = (4.0, 4.0, 6.0)
Expected = tuple[np.ndarray, np.ndarray]  # voxels and affine_ras

_PHANTOMS: dict[tuple[str, float], Any] = {}


def phantom(orientation: str = "LPS", oblique_degrees: float = 0.0) -> Any:
    """A small phantom, rendered once."""
    key = (orientation, oblique_degrees)
    if key not in _PHANTOMS:
        _PHANTOMS[key] = make_case(
            0,
            spacing=SPACING,
            spatial_shape=(36, 34, SLICES),
            orientation=orientation,
            oblique_degrees=oblique_degrees,
        )
    return _PHANTOMS[key]


def series(**options: Any) -> list[Dataset]:
    """Instances of the phantom's series, in memory."""
    view = {k: options.pop(k) for k in ("orientation", "oblique_degrees") if k in options}
    image = _image(options, **view)
    return make_series(image, phantom(**view).affine_ras, options=SeriesOptions(**options))


def expected(**options: Any) -> Expected:
    """What a reader must make of `series` with the same options."""
    view = {k: options.pop(k) for k in ("orientation", "oblique_degrees") if k in options}
    image = _image(options, **view)
    return stored_volume(image, phantom(**view).affine_ras, options=SeriesOptions(**options))


def _image(options: dict[str, Any], **view: Any) -> np.ndarray:
    image = np.asarray(phantom(**view).image, dtype=np.float64)
    bits = options.get("bits_stored", 16)
    return image if bits >= 12 else (image / image.max() * (2**bits - 1)).round()


@dataclass(frozen=True)
class Kind:
    """One kind of folder.

    Attributes:
        name: As the table and the test's parameters name it.
        make: Writes it.
        refused: Codes of the refusals, sorted.
        volumes: The exact volumes that are accepted, in any order.
        skipped: How many files are no DICOM.
        selection: Rules that triage gets.
        tolerance: Largest difference of an intensity, for lossy compression.
        is_bomb: Other readers must not be given it.
    """

    name: str
    make: Callable[[Path], Any]
    refused: tuple[str, ...] = ()
    volumes: Callable[[], Sequence[Expected]] = field(default=tuple)
    skipped: int = 0
    selection: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0
    is_bomb: bool = False


@contextmanager
def unchecked() -> Iterator[None]:
    """Let pydicom write what it would refuse, and say nothing."""
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pydicom.config.settings.writing_validation_mode = before


def add_hashed(folder: Path, datasets: Sequence[Dataset]) -> None:
    """Write files whose names no other series has."""
    write_instances(datasets, folder, has_plain_names=False)


def good(name: str, **options: Any) -> Kind:
    tolerance = options.pop("tolerance", 0.0)
    return Kind(
        name,
        lambda folder: write_instances(series(**dict(options)), folder),
        volumes=lambda: [expected(**dict(options))],
        tolerance=tolerance,
    )


def altered(
    name: str, change: Callable[[list[Dataset]], Any], *refused: str, **options: Any
) -> Kind:
    """A series whose instances are changed in memory before they are written."""
    accepts = not refused
    kind_options = {k: options.pop(k) for k in ("selection", "is_bomb") if k in options}

    def make(folder: Path) -> None:
        with unchecked():
            datasets = series(**dict(options))
            changed = change(datasets)
            write_instances(datasets if changed is None else changed, folder)

    volumes = (lambda: [expected(**dict(options))]) if accepts else tuple
    return Kind(name, make, refused=refused, volumes=volumes, **kind_options)


def damaged(name: str, damage: Callable[[list[Path]], None], *refused: str, **options: Any) -> Kind:
    """A series whose files are changed after they were written."""
    is_bomb = options.pop("is_bomb", False)

    def make(folder: Path) -> None:
        with unchecked():
            damage(write_instances(series(**dict(options)), folder))

    return Kind(name, make, refused=refused, is_bomb=is_bomb)


def beside(
    name: str,
    add: Callable[[Path], None],
    *refused: str,
    skipped: int = 0,
    selection: dict[str, Any] | None = None,
) -> Kind:
    """A good series with something else in its folder."""

    def make(folder: Path) -> None:
        with unchecked():
            write_instances(series(), folder)
            add(folder)

    return Kind(
        name,
        make,
        refused=refused,
        volumes=lambda: [expected()],
        skipped=skipped,
        selection=selection or {},
    )


def set_all(**elements: Any) -> Callable[[list[Dataset]], None]:
    def change(datasets: list[Dataset]) -> None:
        for dataset in datasets:
            for keyword, value in elements.items():
                if value is None:
                    if keyword in dataset:
                        delattr(dataset, keyword)
                else:
                    setattr(dataset, keyword, value)

    return change


def set_one(index: int, **elements: Any) -> Callable[[list[Dataset]], None]:
    return lambda datasets: set_all(**elements)([datasets[index]])


def without(*indices: int) -> Callable[[list[Dataset]], list[Dataset]]:
    return lambda datasets: [d for i, d in enumerate(datasets) if i not in indices]


def shift_slices(offsets: dict[int, float]) -> Callable[[list[Dataset]], None]:
    """Move slices along the last axis, mm."""

    def change(datasets: list[Dataset]) -> None:
        for index, offset in offsets.items():
            x, y, z = (float(value) for value in datasets[index].ImagePositionPatient)
            datasets[index].ImagePositionPatient = [x, y, z + offset]

    return change


def copy_of(dataset: Dataset, number: int, **elements: Any) -> Dataset:
    """Another instance of the same series."""
    other = copy.deepcopy(dataset)
    other.SOPInstanceUID = f"{dataset.SOPInstanceUID[:-3]}{900 + number}"
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    for keyword, value in elements.items():
        setattr(other, keyword, value)
    return other


def duplicate(*, is_equal: bool) -> Callable[[list[Dataset]], list[Dataset]]:
    def change(datasets: list[Dataset]) -> list[Dataset]:
        other = copy_of(datasets[3], 1)
        if not is_equal:
            other.PixelData = bytes(len(other.PixelData))
        return [*datasets, other]

    return change


def localizer(datasets: list[Dataset], *, rotated: bool = True) -> Dataset:
    other = copy_of(datasets[0], 2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    if rotated:
        other.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    return other


def capture(dataset: Dataset) -> Dataset:
    other = copy_of(dataset, 3, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
    other.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    other.ImageType = ["DERIVED", "SECONDARY"]
    return other


def pdf(dataset: Dataset) -> Dataset:
    other = copy_of(dataset, 4, SOPClassUID=EncapsulatedPDFStorage, Modality="DOC")
    other.file_meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    other.SeriesInstanceUID = f"{dataset.SeriesInstanceUID[:-3]}777"
    for element in list(other):
        if element.tag.group in (0x0018, 0x0020, 0x0028, 0x7FE0) and element.VR != "UI":
            del other[element.tag]
    other.MIMETypeOfEncapsulatedDocument = "application/pdf"
    other.EncapsulatedDocument = b"%PDF-1.4 \n"
    return other


def as_class(uid: str, **elements: Any) -> Callable[[list[Dataset]], None]:
    def change(datasets: list[Dataset]) -> None:
        set_all(SOPClassUID=uid, **elements)(datasets)
        for dataset in datasets:
            dataset.file_meta.MediaStorageSOPClassUID = UID(uid)

    return change


def as_syntax(uid: str) -> Callable[[list[Dataset]], None]:
    def change(datasets: list[Dataset]) -> None:
        for dataset in datasets:
            dataset.file_meta.TransferSyntaxUID = UID(uid)
            dataset.PixelData = encapsulate([b"\xff\xd8 no decoder reads this \xff\xd9"])
            dataset["PixelData"].is_undefined_length = True

    return change


def colour(datasets: list[Dataset]) -> None:
    for dataset in datasets:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
        dataset.PlanarConfiguration = 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelData = bytes(3 * dataset.Rows * dataset.Columns)


def lookup_table(datasets: list[Dataset]) -> None:
    for dataset in datasets:
        for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            if keyword in dataset:
                delattr(dataset, keyword)
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
        table.LUTData = np.array([0, 10, 20, 30], np.uint16).tobytes()
        dataset.ModalityLUTSequence = pydicom.Sequence([table])


def float_pixels(datasets: list[Dataset]) -> None:
    for dataset in datasets:
        values = np.zeros((dataset.Rows, dataset.Columns), np.float32)
        del dataset.PixelData
        dataset.BitsAllocated = 32
        dataset.FloatPixelData = values.tobytes()


def mixed_size(datasets: list[Dataset]) -> None:
    dataset = datasets[4]
    dataset.Rows -= 2
    dataset.PixelData = bytes(2 * dataset.Rows * dataset.Columns)


def mixed_bits(datasets: list[Dataset]) -> None:
    dataset = datasets[4]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = bytes(dataset.Rows * dataset.Columns)


def same_uid(datasets: list[Dataset]) -> None:
    datasets[5].SOPInstanceUID = datasets[2].SOPInstanceUID
    datasets[5].file_meta.MediaStorageSOPInstanceUID = datasets[2].SOPInstanceUID


def two_echoes(datasets: list[Dataset]) -> list[Dataset]:
    first = set_all(EchoNumbers=1, EchoTime=20)
    first(datasets)
    others = [copy_of(d, 10 + i, EchoNumbers=2, EchoTime=90) for i, d in enumerate(datasets)]
    return [*datasets, *others]


def display(datasets: list[Dataset]) -> None:
    """What changes how an image is shown, not what it is."""
    table = Dataset()
    table.LUTDescriptor, table.LUTExplanation = [4, 0, 16], "to show"
    table.LUTData = np.array([30, 20, 10, 0], np.uint16).tobytes()
    set_all(
        WindowCenter=40, WindowWidth=80, PresentationLUTShape="INVERSE", VOILUTSequence=[table]
    )(datasets)


def overlay(datasets: list[Dataset]) -> None:
    for dataset in datasets:
        dataset.add_new(0x60000010, "US", dataset.Rows)
        dataset.add_new(0x60000011, "US", dataset.Columns)
        dataset.add_new(0x60000040, "CS", "G")
        dataset.add_new(0x60000050, "SS", [1, 1])
        dataset.add_new(0x60000100, "US", 1)
        dataset.add_new(0x60000102, "US", 0)
        dataset.add_new(0x60003000, "OW", b"\xff" * (-(-dataset.Rows * dataset.Columns // 16) * 2))


def overlay_bits(datasets: list[Dataset]) -> None:
    for dataset in datasets:
        stored = np.frombuffer(dataset.PixelData, "<u2") | 0xA000
        dataset.PixelData = stored.tobytes()
        dataset.add_new(0x60000100, "US", 16)
        dataset.add_new(0x60000102, "US", 15)


def real_world_values(datasets: list[Dataset]) -> None:
    item = Dataset()
    item.RealWorldValueIntercept, item.RealWorldValueSlope = -7.0, 3.0
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 0, 4095
    item.LUTLabel = item.LUTExplanation = "to measure"
    set_all(RealWorldValueMappingSequence=[item])(datasets)


def presentation_state(dataset: Dataset) -> Dataset:
    state = "1.2.840.10008.5.1.4.1.1.11.1"
    other = pdf(dataset)
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = UID(state)
    other.Modality, other.PresentationLUTShape = "PR", "INVERSE"
    del other.MIMETypeOfEncapsulatedDocument, other.EncapsulatedDocument
    return other


def two_components(datasets: list[Dataset]) -> list[Dataset]:
    """Every frame twice, as magnitude and as phase, under one FrameType."""
    (dataset,) = datasets
    (shared,) = dataset.SharedFunctionalGroupsSequence
    kind = shared.MRImageFrameTypeSequence
    del shared.MRImageFrameTypeSequence
    frames = list(dataset.PerFrameFunctionalGroupsSequence)
    twice = [copy.deepcopy(frame) for frame in frames for _ in range(2)]
    for index, frame in enumerate(twice):
        frame.MRImageFrameTypeSequence = copy.deepcopy(kind)
        component = ("MAGNITUDE", "PHASE")[index % 2]
        frame.MRImageFrameTypeSequence[0].ComplexImageComponent = component
    stored = np.frombuffer(dataset.PixelData, "<u2").reshape(len(frames), -1)
    dataset.PixelData = np.repeat(stored, 2, axis=0).tobytes()
    dataset.PerFrameFunctionalGroupsSequence = twice
    dataset.NumberOfFrames = len(twice)
    return datasets


def without_scale(index: int) -> Callable[[list[Dataset]], None]:
    def change(datasets: list[Dataset]) -> None:
        del datasets[index][0x2005, 0x100E]

    return change


def nested_private(datasets: list[Dataset]) -> None:
    for dataset in datasets:
        block = dataset.private_block(0x0029, "ACME HEADER", create=True)
        inner = Dataset()
        inner.PatientName = "PHANTOM^NESTED"
        deeper = Dataset()
        deeper.ReferencedImageSequence = pydicom.Sequence([inner])
        block.add_new(0x10, "SQ", pydicom.Sequence([deeper]))
        block.add_new(0x11, "OB", bytes(range(256)) * 16)


def classic_multiframe(datasets: list[Dataset]) -> list[Dataset]:
    dataset = datasets[0]
    dataset.NumberOfFrames = len(datasets)
    dataset.PixelData = b"".join(d.PixelData for d in datasets)
    return [dataset]


def rle_bomb(paths: list[Path]) -> None:
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.Rows = dataset.Columns = 65535
        dataset.save_as(path)


def frames_bomb(paths: list[Path]) -> None:
    dataset = pydicom.dcmread(paths[0])
    dataset.NumberOfFrames = 2**31 - 1
    dataset.save_as(paths[0])


def wavelet_bomb(paths: list[Path]) -> None:
    dataset = pydicom.dcmread(paths[0])
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    content = bytearray(stream)
    size = content.index(b"\xff\x51") + 6
    content[size : size + 8] = (60000).to_bytes(4, "big") * 2
    dataset.PixelData = encapsulate([bytes(content)])
    dataset.save_as(paths[0])


def deflated_bomb(paths: list[Path]) -> None:
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.add_new(0x00091001, "UN", bytes(2**24))
        dataset.save_as(path)


def cut_bytes(count: int) -> Callable[[list[Path]], None]:
    def damage(paths: list[Path]) -> None:
        paths[3].write_bytes(paths[3].read_bytes()[:-count])

    return damage


def cut_to(size: int) -> Callable[[list[Path]], None]:
    def damage(paths: list[Path]) -> None:
        for path in paths:
            path.write_bytes(path.read_bytes()[:size])

    return damage


def cut_stream(paths: list[Path]) -> None:
    dataset = pydicom.dcmread(paths[3])
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([stream[: len(stream) // 2]])
    dataset.save_as(paths[3])


def noise_after_preamble(paths: list[Path]) -> None:
    generator = np.random.default_rng(0)
    for path in paths:
        path.write_bytes(bytes(128) + b"DICM" + generator.bytes(4000))


def no_preamble(paths: list[Path]) -> None:
    for path in paths:
        path.write_bytes(path.read_bytes()[132:])


def endless_sequence(paths: list[Path]) -> None:
    """A sequence of undefined length, a thousand levels deep, that never ends."""
    sequence, item = b"\x08\x00\x40\x11SQ\x00\x00" + b"\xff" * 4, b"\xfe\xff\x00\xe0" + b"\xff" * 4
    for path in paths:
        content = path.read_bytes()
        first = content.index(b"\x08\x00\x05\x00CS")  # of the data set: SpecificCharacterSet
        path.write_bytes(content[:first] + (sequence + item) * 1000)


def reversed_names(folder: Path) -> None:
    paths = write_instances(series(), folder)
    for number, path in enumerate(paths):
        path.rename(folder / f"IM{len(paths) - number:03d}")


def add_files(folder: Path) -> None:
    (folder / "notes.txt").write_text("not an image")
    (folder / "empty.dcm").touch()
    (folder / "._0001.dcm").write_bytes(b"\x00\x05\x16\x07")
    index = series()[0]
    index.SOPClassUID = index.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.1.3.10")
    index.save_as(folder / "DICOMDIR", enforce_file_format=True)


def enhanced_shift(index: int, offset: float) -> Callable[[list[Dataset]], None]:
    def change(datasets: list[Dataset]) -> None:
        group = datasets[0].PerFrameFunctionalGroupsSequence[index]
        x, y, z = map(float, group.PlanePositionSequence[0].ImagePositionPatient)
        group.PlanePositionSequence[0].ImagePositionPatient = [x, y, z + offset]

    return change


def enhanced_without(index: int) -> Callable[[list[Dataset]], None]:
    def change(datasets: list[Dataset]) -> None:
        (dataset,) = datasets
        size = 2 * dataset.Rows * dataset.Columns
        dataset.PixelData = (
            dataset.PixelData[: index * size] + dataset.PixelData[(index + 1) * size :]
        )
        del dataset.PerFrameFunctionalGroupsSequence[index]
        dataset.NumberOfFrames = int(dataset.NumberOfFrames) - 1

    return change


TRAVERSAL = "1.2.840.99/../../../../tmp/escaped"
SCALES = tuple(0.2 + 0.02 * i for i in range(SLICES))
SHORT_RESCALES = tuple((1.0 + 0.5 * i, -10.0 * i) for i in range(SLICES))

KINDS = [
    # exact volumes
    good("good MR series"),
    good("good CT series", modality="CT"),
    good("Implicit VR Little Endian", transfer_syntax=ImplicitVRLittleEndian),
    good("Explicit VR Big Endian", transfer_syntax=ExplicitVRBigEndian),
    good("RLE Lossless", transfer_syntax=RLELossless),
    good("JPEG Lossless", transfer_syntax=JPEGLossless),
    good("JPEG Lossless SV1", transfer_syntax=JPEGLosslessSV1),
    good("JPEG-LS Lossless", transfer_syntax=JPEGLSLossless),
    good("JPEG 2000 Lossless", transfer_syntax=JPEG2000Lossless),
    good("JPEG Baseline, 8 bits", transfer_syntax=JPEGBaseline8Bit, bits_stored=8, tolerance=16),
    good("Enhanced MR", is_enhanced=True),
    good("Enhanced CT", is_enhanced=True, modality="CT"),
    good("Enhanced MR, JPEG 2000", is_enhanced=True, transfer_syntax=JPEG2000Lossless),
    good("HTJ2K Lossless", transfer_syntax="1.2.840.10008.1.2.4.201"),
    good("Enhanced MR, Siemens' form", is_enhanced=True, vendor="siemens"),
    good("Enhanced MR, Philips' form", is_enhanced=True, vendor="philips"),
    good("Enhanced CT, Siemens' form", is_enhanced=True, vendor="siemens", modality="CT"),
    good("Enhanced CT, Philips' form", is_enhanced=True, vendor="philips", modality="CT"),
    good("Philips MR, one scale slope", vendor="philips", rescale=(1.5, 0.0)),
    good("Philips MR, scale slopes that differ", vendor="philips", scales=SCALES, tolerance=1e-3),
    good(
        "Enhanced MR of Philips, likewise",
        vendor="philips",
        scales=SCALES,
        is_enhanced=True,
        tolerance=1e-3,
    ),
    good("12 bits stored", bits_stored=12),
    good("signed pixels", is_signed=True),
    good("a rescale of its own per slice", modality="CT", is_signed=True, rescale=SHORT_RESCALES),
    good("shuffled, no extensions", is_shuffled=True),
    good("sagittal", orientation="PIL"),
    good("coronal", orientation="LIA"),
    good("oblique", oblique_degrees=20.0),
    good("feet first", orientation="RPI"),
    good("gantry tilt of 15°", modality="CT", tilt_degrees=15.0),
    Kind("file names in reverse", reversed_names, volumes=lambda: [expected()]),
    altered("equal duplicate", duplicate(is_equal=True)),
    altered("localizer mixed in", lambda d: [*d, localizer(d)]),
    altered("secondary capture mixed in", lambda d: [*d, capture(d[0])]),
    altered("positions rounded to 0.01 mm", shift_slices({2: 0.01, 5: -0.01})),
    altered("path traversal in SeriesInstanceUID", set_all(SeriesInstanceUID=TRAVERSAL)),
    altered("window, VOI LUT, inverse presentation", display),
    altered("overlay plane", overlay),
    altered("overlay in the bits above BitsStored", overlay_bits, bits_stored=12),
    altered("real-world values", real_world_values),
    altered("RescaleType of another unit", set_all(RescaleType="US"), modality="CT"),
    altered("nested private sequences", nested_private),
    altered("unknown character set", set_all(SpecificCharacterSet="ISO_IR 4711")),
    altered(
        "negative zero in the orientation",
        set_all(ImageOrientationPatient=[1, -0.0, 0, 0, 1, -0.0]),
    ),
    beside("other files and a DICOMDIR beside", add_files, skipped=3),
    beside(
        "PDF beside",
        lambda f: add_hashed(f, [pdf(series()[0])]),
        "not_an_image",
    ),
    beside(
        "presentation state beside",
        lambda f: add_hashed(f, [presentation_state(series()[0])]),
        "not_an_image",
    ),
    Kind(
        "two series in a folder",
        lambda f: add_hashed(f, [*series(), *series(series=2, is_shuffled=True)]),
        volumes=lambda: [expected(), expected()],
        selection={"on_many": "keep"},
    ),
    Kind(
        "two echoes in a series",
        lambda f: add_hashed(f, two_echoes(series())),
        volumes=lambda: [expected(), expected()],
        selection={"on_many": "keep"},
    ),
    Kind(
        "magnitude and phase in one enhanced file",
        lambda f: write_instances(two_components(series(is_enhanced=True)), f),
        volumes=lambda: [expected(), expected()],
    ),
    # refused: geometry
    altered("1 slice missing", without(3), "missing_slices"),
    altered("2 slices missing", without(3, 4), "missing_slices"),
    altered("every other slice missing at one end", without(1, 3), "missing_slices"),
    altered("variable spacing", shift_slices({3: 1.5, 4: 2.0}), "irregular_spacing"),
    altered("one slice 0.5 mm off", shift_slices({3: 0.5}), "irregular_spacing"),
    altered("different duplicate", duplicate(is_equal=False), "conflicting_duplicates"),
    altered("one SOPInstanceUID for two images", same_uid, "conflicting_duplicates"),
    altered(
        "one slice turned",
        set_one(4, ImageOrientationPatient=[0.8, 0.6, 0, -0.6, 0.8, 0]),
        "mixed_orientation",
    ),
    altered("one slice of another size", mixed_size, "mixed_size"),
    altered("one slice of another PixelSpacing", set_one(4, PixelSpacing=[3, 3]), "mixed_spacing"),
    altered(
        "one slice of another frame of reference",
        set_one(4, FrameOfReferenceUID="1.2.3"),
        "mixed_frame_of_reference",
    ),
    altered("no FrameOfReferenceUID", set_all(FrameOfReferenceUID=None), "no_frame_of_reference"),
    altered("PixelSpacing NaN", set_all(PixelSpacing=["NaN", "NaN"]), "invalid_geometry"),
    altered("PixelSpacing 0", set_all(PixelSpacing=[0, 4]), "invalid_geometry"),
    altered("PixelSpacing negative", set_all(PixelSpacing=[-4, 4]), "invalid_geometry"),
    altered("PixelSpacing missing", set_all(PixelSpacing=None), "invalid_geometry"),
    altered(
        "position infinite", set_one(2, ImagePositionPatient=["inf", "0", "0"]), "invalid_geometry"
    ),
    altered("position missing", set_all(ImagePositionPatient=None), "invalid_geometry"),
    altered(
        "orientation of length 0", set_all(ImageOrientationPatient=[0] * 6), "invalid_geometry"
    ),
    altered(
        "orientation not orthogonal",
        set_all(ImageOrientationPatient=[1, 0, 0, 0.5, 0.9, 0]),
        "invalid_geometry",
    ),
    altered(
        "gantry tilt of 50°", lambda d: None, "invalid_geometry", modality="CT", tilt_degrees=50.0
    ),
    altered("a single slice", without(*range(1, SLICES)), "too_few_slices"),
    altered(
        "Enhanced MR, a frame missing", enhanced_without(3), "missing_slices", is_enhanced=True
    ),
    altered(
        "Enhanced MR, a frame off its place",
        enhanced_shift(3, 2.0),
        "irregular_spacing",
        is_enhanced=True,
    ),
    # refused: intensities
    altered("RescaleSlope 1e39", set_all(RescaleSlope="1e39"), "invalid_rescale", modality="CT"),
    altered("RescaleSlope NaN", set_all(RescaleSlope="NaN"), "invalid_rescale", modality="CT"),
    altered("RescaleSlope 0", set_all(RescaleSlope="0"), "invalid_rescale", modality="CT"),
    altered(
        "RescaleIntercept infinite",
        set_one(5, RescaleIntercept="inf"),
        "invalid_rescale",
        modality="CT",
    ),
    altered("lookup table for a rescale", lookup_table, "invalid_rescale", modality="CT"),
    altered(
        "MONOCHROME1", set_all(PhotometricInterpretation="MONOCHROME1"), "invalid_pixel_format"
    ),
    altered("more bits stored than allocated", set_all(BitsStored=18), "invalid_pixel_format"),
    altered("floating-point pixels", float_pixels, "invalid_pixel_format"),
    altered("one slice of 8 bits", mixed_bits, "mixed_pixel_format"),
    altered("colour", colour, "colour"),
    altered(
        "a colour palette beside grey values",
        set_all(PixelPresentation="COLOR"),
        "colour",
        is_enhanced=True,
    ),
    altered(
        "Philips' scale slope on some slices only",
        without_scale(2),
        "invalid_rescale",
        vendor="philips",
    ),
    # refused: not what is segmented
    altered(
        "localizers only", set_all(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"
    ),
    altered("secondary captures only", lambda d: [capture(x) for x in d], "secondary_capture"),
    altered("PDF only", lambda d: [pdf(d[0])], "not_an_image"),
    altered(
        "PET", as_class(PositronEmissionTomographyImageStorage, Modality="PT"), "unsupported_image"
    ),
    altered("several frames in a classic instance", classic_multiframe, "unsupported_image"),
    altered(
        "two series where one is meant",
        lambda d: [*d, *series(series=2)],
        "ambiguous_selection",
        "ambiguous_selection",
        selection={"modality": ["MR"]},
    ),
    altered(
        "a series that is not meant", lambda d: None, "not_selected", selection={"modality": ["CT"]}
    ),
    # refused: bytes
    altered("JPEG Extended, 12 bits", as_syntax(JPEGExtended12Bit), "unsupported_transfer_syntax"),
    altered("video", as_syntax(MPEG4HP41), "unsupported_transfer_syntax"),
    altered("deflated", lambda d: None, "deflated", transfer_syntax=DeflatedExplicitVRLittleEndian),
    damaged(
        "deflated bomb, 16 MiB a file",
        deflated_bomb,
        "deflated",
        transfer_syntax=DeflatedExplicitVRLittleEndian,
        is_bomb=True,
    ),
    damaged(
        "RLE that claims 65535² pixels",
        rle_bomb,
        "over_pixel_budget",
        transfer_syntax=RLELossless,
        is_bomb=True,
    ),
    damaged(
        "2³¹ − 1 frames claimed", frames_bomb, "over_pixel_budget", is_enhanced=True, is_bomb=True
    ),
    damaged(
        "JPEG 2000 that claims 60000² inside",
        wavelet_bomb,
        "undecodable",
        transfer_syntax=JPEG2000Lossless,
        is_bomb=True,
    ),
    damaged("pixel data cut off", cut_bytes(500), "truncated_pixel_data"),
    damaged(
        "encapsulated pixel data cut off",
        cut_bytes(300),
        "truncated_pixel_data",
        transfer_syntax=JPEGLSLossless,
    ),
    damaged(
        "JPEG-LS stream cut inside its container",
        cut_stream,
        "undecodable",
        transfer_syntax=JPEGLSLossless,
    ),
    damaged(
        "JPEG Lossless stream cut inside its container",
        cut_stream,
        "undecodable",
        transfer_syntax=JPEGLosslessSV1,
    ),
    damaged("headers cut off", cut_to(400), "unreadable"),
    damaged("noise behind a preamble", noise_after_preamble, "unreadable"),
    damaged("no preamble", no_preamble, "unreadable"),
    damaged(
        "sequences a thousand levels deep, without end",
        endless_sequence,
        "unreadable",
        is_bomb=True,
    ),
]
