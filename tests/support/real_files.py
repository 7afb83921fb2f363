"""Files that other programs made, as packages ship them, each judged once by a person.

`JUDGED` says of every file of pydicom's and nibabel's tests what must become of it and why;
``docs/reference/dicom-corpus.md`` shows it. Files of DICOM are judged one by one, unless the name
ends in ``/``: then all files below are one folder for triage. highdicom ships none.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import nibabel
import pydicom

__all__ = ["JUDGED", "Judged", "find_members", "list_files", "render_rows", "unpack"]

PYDICOM = Path(pydicom.__file__).parent / "data"
NIBABEL = Path(nibabel.__file__).parent
PACKAGES = {"pydicom": PYDICOM, "nibabel": NIBABEL}
TREES = {"pydicom": ("test_files", "charset_files"), "nibabel": ("tests/data", "nicom/tests/data")}
ENDINGS = {"nibabel": (".dcm", ".dcm.gz", ".nii", ".nii.gz", ".hdr", ".mgz")}


@dataclass(frozen=True)
class Judged:
    """What must become of some files.

    Attributes:
        package: That ships them.
        names: Patterns below the package's data; of several patterns the first one counts.
        answer: A reason code, ``accepted``, ``no DICOM``, ``index`` (a DICOMDIR), ``read``, or the
            name of an error.
        why: Why this is right, in a person's words.
    """

    package: str
    names: tuple[str, ...]
    answer: str
    why: str


def _pydicom(answer: str, why: str, *names: str) -> Judged:
    return Judged("pydicom", tuple(f"test_files/{name}" for name in names), answer, why)


def _nibabel(answer: str, why: str, *names: str) -> Judged:
    return Judged("nibabel", names, answer, why)


JUDGED = (
    _pydicom("accepted", "five slices of one CT series", "dicomdirtests/98892001/CT5N/"),
    _pydicom(
        "missing_slices",
        "four slices out of 165: 202.5 mm of nothing between them",
        "dicomdirtests/77654033/CT2/",
    ),
    _pydicom("localizer", "two CT scouts", "dicomdirtests/98892001/CT2N/"),
    _pydicom(
        "mixed_orientation",
        "projections of an angiogram, seen from seven sides",
        "dicomdirtests/98892003/MR700/",
    ),
    _pydicom("index", "a DICOMDIR lists files, it is none", "dicomdirtests/*DICOMDIR*"),
    _pydicom(
        "truncated_pixel_data",
        "CT headers whose pixels were taken out",
        "dicomdirtests/TINY_ALPHA/PT*",
    ),
    _pydicom(
        "no DICOM",
        "texts, a colour profile, an archive",
        "*.txt",
        "*README",
        "*.json",
        "*.dump",
        "*.icc",
        "*.gz",
    ),
    _pydicom(
        "no DICOM", "a byte before the data set: nothing is where it should be", "no_meta.dcm"
    ),
    _pydicom("unsupported_image", "radiography", "dicomdirtests/*/CR*"),
    _pydicom("localizer", "a CT scout", "dicomdirtests/98892001/CT2N/*"),
    _pydicom("too_few_slices", "one slice of CT or MR", "dicomdirtests/*"),
    _pydicom(
        "too_few_slices",
        "one slice each, in many encodings",
        "CT_small.dcm",
        "MR_small*.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "examples_overlay.dcm",
    ),
    _pydicom("no_frame_of_reference", "one CT slice that lies nowhere", "693_J2KI.dcm"),
    _pydicom("truncated_pixel_data", "62 bytes of pixels are missing", "MR_truncated.dcm"),
    _pydicom(
        "unreadable",
        "a data set without preamble and file meta information",
        "ExplVR_*NoMeta.dcm",
        "rtstruct.dcm",
    ),
    _pydicom("unreadable", "names no transfer syntax", "meta_missing_tsyntax.dcm"),
    _pydicom("unreadable", "ends within its header", "rtplan_truncated.dcm"),
    _pydicom(
        "unreadable",
        "belongs to no study: StudyInstanceUID is missing",
        "JPEGLSNearLossless_*.dcm",
        "SC_rgb_jls_lossy_*.dcm",
    ),
    _pydicom(
        "unreadable",
        "says not what it is: SOPClassUID is missing",
        "UN_sequence.dcm",
        "empty_charset_LEI.dcm",
        "nested_priv_SQ.dcm",
        "no_meta_group_length.dcm",
        "priv_SQ.dcm",
    ),
    _pydicom("deflated", "a deflated data set", "image_dfl.dcm"),
    _pydicom(
        "secondary_capture",
        "pictures, most in colour",
        "SC_*.dcm",
        "GDCMJ2K_TextGBR.dcm",
        "JPEG*.dcm",
        "JPGExtended.dcm",
    ),
    _pydicom("unsupported_image", "ultrasound", "ExplVR_BigEnd.dcm", "examples_*.dcm"),
    _pydicom("unsupported_image", "radiotherapy doses", "rtdose*.dcm", "badVR.dcm"),
    _pydicom("unsupported_image", "segmentations", "liver_*.dcm"),
    _pydicom(
        "not_an_image",
        "reports, a plan, an ECG",
        "reportsi*.dcm",
        "rtplan.dcm",
        "test-SR.dcm",
        "waveform_ecg.dcm",
    ),
    Judged("pydicom", ("charset_files/*.txt",), "no DICOM", "a text"),
    Judged(
        "pydicom",
        ("charset_files/chrSQEncoding*.dcm",),
        "unreadable",
        "says not what it is: SOPClassUID is missing",
    ),
    Judged(
        "pydicom",
        ("charset_files/chrJap*.dcm", "charset_files/chrKorean*.dcm"),
        "unsupported_image",
        "radiography, for its names in Japanese and Korean",
    ),
    Judged(
        "pydicom",
        ("charset_files/chr*.dcm",),
        "secondary_capture",
        "pictures, for their names in other character sets",
    ),
    _nibabel(
        "mosaic",
        "Siemens diffusion: all slices as tiles of one image",
        "*/0.dcm",
        "*/1.dcm",
        "*/csa_slice_norm.dcm",
        "*/siemens_dwi_*.dcm.gz",
    ),
    _nibabel("unreadable", "says not what it is: SOPClassUID is missing", "*/decimal_rescale.dcm"),
    _nibabel("too_few_slices", "one slice of MR", "*/slicethickness_empty_string.dcm"),
    _nibabel("accepted", "enhanced MR of Philips, 176 slices", "*/philips_mprage.dcm.gz"),
    _nibabel(
        "read",
        "whole volumes with their place",
        "*/anatomical.nii",
        "*/reoriented_anat_moved.nii",
        "*/standard.nii.gz",
    ),
    _nibabel(
        "ChannelError",
        "several volumes in one file",
        "*/example4d.nii.gz",
        "*/example_nifti2.nii.gz",
        "*/functional.nii",
    ),
    _nibabel("IntensityError", "153 voxels are NaN", "*/resampled_anat_moved.nii"),
    _nibabel("GeometryError", "a CIFTI matrix, which lies nowhere", "*/row_major.dconn.nii"),
    _nibabel("UnreadableImageError", "headers without voxels; another format", "*.hdr", "*.mgz"),
)


def list_files(package: str) -> list[str]:
    """Files of a package, below its data."""
    root, endings = PACKAGES[package], ENDINGS.get(package, ("",))
    found = (file for tree in TREES[package] for file in (root / tree).rglob("*"))
    return sorted(
        file.relative_to(root).as_posix()
        for file in found
        if file.is_file() and file.name.endswith(endings) and "__" not in file.name
    )


def find_members(judged: Judged) -> Iterator[str]:
    """Files and folders for which the judgement is the first that fits."""
    earlier = JUDGED[: JUDGED.index(judged)]
    for name in judged.names:
        if name.endswith("/"):
            yield name
    for file in list_files(judged.package):
        if any(fnmatch(file, name) for name in judged.names) and not any(
            fnmatch(file, name)
            for other in earlier
            if other.package == judged.package
            for name in other.names
        ):
            yield file


def unpack(judged: Judged, member: str, folder: Path) -> Path:
    """Say where to read a member; what is packed as a whole, though no NIfTI, is unpacked."""
    path = PACKAGES[judged.package] / member
    if not member.endswith(".dcm.gz"):
        return path
    plain = folder / path.name.removesuffix(".gz")
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    return plain


def render_rows() -> list[str]:
    """Rows of the table in ``docs/reference/dicom-corpus.md``."""
    rows = []
    for judged in JUDGED:
        names = ", ".join(f"`{name.removeprefix('test_files/')}`" for name in judged.names)
        count = len(list(find_members(judged)))
        rows.append(f"| {judged.package} | {names} | {count} | `{judged.answer}` | {judged.why} |")
    return rows
