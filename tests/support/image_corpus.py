"""NIfTI, MetaImage and NRRD files as they come, good and defective, written byte by byte.

Each kind writes a file and says what must become of it: the error, or the exact image. Nothing of
the package is used to write them. `KINDS` is the whole list; ``docs/reference/image-conditions.md``
shows it.
"""

import bz2
import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (6, 7, 5)
SPACING = (0.5, 0.75, 3.0)
ORIGIN_RAS = (-10.0, 20.0, 30.0)
AFFINE = np.diag([*SPACING, 1.0])
AFFINE[:3, 3] = ORIGIN_RAS
VOXELS = np.random.default_rng(0).integers(0, 100, SHAPE)  # fit every type
MEBIBYTE = 2**20
BACKWARDS = "(-{},0,0) (0,-{},0) (0,0,{})".format(*SPACING)  # two axes of LPS run against RAS

Make = Callable[[Path], Path]


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: As the table and the test's parameters name it.
        make: Writes it into a folder and returns its path.
        error: Name of the error, with a pattern of its message; empty if the image is read.
        message: The pattern.
        voxels: What a reader must return; None where the error is right.
        is_bomb: Other readers must not be given it.
    """

    name: str
    make: Make
    error: str = ""
    message: str = ""
    voxels: np.ndarray | None = None
    is_bomb: bool = False


def nifti(voxels: np.ndarray = VOXELS, kind: str = "<i2", **edits: Any) -> bytes:
    """A NIfTI-1 file; `edits` replace fields of its header by their place and format."""
    codes = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "i8": 1024}
    order = kind[0]
    header = bytearray(352)
    dim = [voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim)]
    fields = {
        "sizeof_hdr": (0, "i", 348),
        "dim": (40, "8h", dim),
        "datatype": (70, "h", codes.get(kind[1:], 4)),
        "bitpix": (72, "h", 8 * int(kind[2])),
        "pixdim": (76, "8f", [1, *SPACING, 1, 1, 1, 1]),
        "vox_offset": (108, "f", 352),
        "scl_slope": (112, "f", 1),
        "scl_inter": (116, "f", 0),
        "xyzt_units": (123, "b", 2),
        "qform_code": (252, "h", 0),
        "sform_code": (254, "h", 1),
        "srow": (280, "12f", AFFINE[:3].ravel().tolist()),
        "magic": (344, "4s", b"n+1\0"),
    }
    for name, (place, form, value) in fields.items():
        chosen = edits.get(name, value)
        values = chosen if isinstance(chosen, list) else [chosen]
        struct.pack_into(order + form, header, place, *values)
    behind: bytes = edits.get("behind", b"")
    return bytes(header) + voxels.astype(kind).tobytes(order="F") + behind


def nifti_2(offset: int = 544) -> bytes:
    """A NIfTI-2 file."""
    header = bytearray(544)
    struct.pack_into("<i8sh", header, 0, 540, b"n+2\0\r\n\x1a\n", 4)
    struct.pack_into("<h8q", header, 14, 16, 3, *SHAPE, 1, 1, 1, 1)
    struct.pack_into("<8d", header, 104, 1, *SPACING, 1, 1, 1, 1)
    struct.pack_into("<qdd", header, 168, offset, 1, 0)
    struct.pack_into("<2i", header, 344, 0, 1)
    struct.pack_into("<12d", header, 400, *AFFINE[:3].ravel())
    struct.pack_into("<i", header, 500, 2)
    return bytes(header) + VOXELS.astype("<i2").tobytes(order="F")


def write(name: str, content: bytes | Callable[[], bytes]) -> Make:
    """A file with these bytes, made only when they are needed where that takes long."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content() if callable(content) else content)
        return folder / name

    return make


def meta(
    voxels: bytes | None = None,
    kind: str = "i2",
    data: str = "LOCAL",
    **edits: Any,
) -> bytes:
    """A MetaImage; an edit of None takes a field out."""
    names = {"u1": "MET_UCHAR", "i1": "MET_CHAR", "i2": "MET_SHORT", "f4": "MET_FLOAT"}
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "-1 0 0 0 -1 0 0 0 1",
        "Offset": f"{-ORIGIN_RAS[0]} {-ORIGIN_RAS[1]} {ORIGIN_RAS[2]}",
        "ElementSpacing": " ".join(map(str, SPACING)),
        "DimSize": " ".join(map(str, SHAPE)),
        "ElementType": names.get(kind, "MET_LONG_LONG"),
        **edits,
    }
    lines = [f"{key} = {value}\n" for key, value in fields.items() if value is not None]
    content = raw(kind) if voxels is None else voxels
    return "".join([*lines, f"ElementDataFile = {data}\n"]).encode() + content


def nrrd(voxels: bytes | None = None, kind: str = "i2", **edits: Any) -> bytes:
    """An NRRD; an edit of None takes a field out, ``_`` stands for a space in its name."""
    names = {"i1": "int8", "u1": "uchar", "i2": "short", "i8": "int64"}
    fields = {
        "type": names[kind],
        "dimension": 3,
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, SHAPE)),
        "space_directions": BACKWARDS,
        "endian": "little",
        "encoding": "raw",
        "space_origin": f"({-ORIGIN_RAS[0]},{-ORIGIN_RAS[1]},{ORIGIN_RAS[2]})",
        **edits,
    }
    lines = [f"{k.replace('_', ' ')}: {v}\n" for k, v in fields.items() if v is not None]
    content = raw(kind) if voxels is None else voxels
    return "".join(["NRRD0004\n", *lines, "\n"]).encode() + content


def raw(kind: str = "i2") -> bytes:
    """The voxels, the first axis fastest, on a grid that runs against two axes of LPS."""
    return VOXELS.astype(f"<{kind}").tobytes(order="F")


def flipped(content: bytes, place: int = -20) -> bytes:
    """One byte changed."""
    damaged = bytearray(content)
    damaged[place] ^= 0xFF
    return bytes(damaged)


def zeros(size: int) -> bytes:
    """Very many zeros, deflated."""
    stream = zlib.compressobj(9)
    parts = [stream.compress(bytes(MEBIBYTE)) for _ in range(size // MEBIBYTE)]
    return b"".join([*parts, stream.flush()])


def bomb_gzip(size: int) -> bytes:
    """A whole small image, and behind it very many zeros, in one gzip."""
    stream = zlib.compressobj(9, wbits=31)
    parts = [stream.compress(nifti())]
    parts += [stream.compress(bytes(MEBIBYTE)) for _ in range(size // MEBIBYTE)]
    return b"".join([*parts, stream.flush()])


def detached(name: str, header: bytes, data: Callable[[Path], Any]) -> Make:
    """A header, and whatever is made of its folder beside it."""

    def make(folder: Path) -> Path:
        inner = folder / "case"
        inner.mkdir()
        (inner / name).write_bytes(header)
        data(inner)
        return inner / name

    return make


def good(name: str, make: Make, voxels: np.ndarray = VOXELS) -> Kind:
    """A kind that is read exactly."""
    return Kind(name, make, voxels=voxels)


def _nifti_kinds() -> list[Kind]:
    geometry, unreadable, intensity = "GeometryError", "UnreadableImageError", "IntensityError"
    eye = AFFINE[:3].ravel().tolist()
    big = [3, 2000, 2000, 2000, 1, 1, 1, 1]
    return [
        good("NIfTI-1", write("a.nii", nifti())),
        good("NIfTI-1, gzip", write("a.nii.gz", gzip.compress(nifti()))),
        good(
            "NIfTI-1, gzip in two members",
            write("a.nii.gz", gzip.compress(nifti()[:500]) + gzip.compress(nifti()[500:])),
        ),
        good(
            "NIfTI-1, gzip padded with zeros", write("a.nii.gz", gzip.compress(nifti()) + bytes(99))
        ),
        good("NIfTI-1, big endian", write("a.nii", nifti(kind=">i2"))),
        good("NIfTI-1, int8", write("a.nii", nifti(kind="<i1"))),
        good("NIfTI-1, int64", write("a.nii", nifti(kind="<i8"))),
        good("NIfTI-1, float64", write("a.nii", nifti(kind="<f8"))),
        good("NIfTI-2", write("a.nii", nifti_2())),
        good("4D of one volume", write("a.nii", nifti(VOXELS[..., None]))),
        good("slope 0: no scale", write("a.nii", nifti(scl_slope=0, scl_inter=9))),
        good(
            "slope 2, intercept −3",
            write("a.nii", nifti(scl_slope=2, scl_inter=-3)),
            VOXELS * 2 - 3,
        ),
        good("bytes behind the voxels", write("a.nii", nifti(behind=bytes(99)))),
        good("bitpix that contradicts datatype", write("a.nii", nifti(bitpix=32))),
        Kind(
            "gzip cut off", write("a.nii.gz", gzip.compress(nifti())[:-30]), unreadable, "cut off"
        ),
        Kind(
            "gzip without its checksum",
            write("a.nii.gz", gzip.compress(nifti())[:-8]),
            unreadable,
            "cut off",
        ),
        Kind(
            "gzip damaged",
            write("a.nii.gz", flipped(gzip.compress(nifti()))),
            unreadable,
            "damaged",
        ),
        Kind(
            "gzip, named .nii", write("a.nii", gzip.compress(nifti())), unreadable, r"end in \.gz"
        ),
        Kind("no gzip, named .nii.gz", write("a.nii.gz", nifti()), unreadable, "Take .gz off"),
        Kind("voxels cut off", write("a.nii", nifti()[:-100]), unreadable, "it is cut off"),
        Kind("header cut off", write("a.nii", nifti()[:200]), unreadable, "cut off"),
        Kind("empty", write("a.nii", b""), unreadable, "is empty"),
        Kind("a text", write("a.nii", b"no image " * 99), unreadable, "must be a NIfTI file"),
        Kind(
            "magic of a pair, ni1",
            write("a.nii", nifti(magic=b"ni1\0")),
            unreadable,
            "half of a pair",
        ),
        Kind("no magic: Analyze", write("a.nii", nifti(magic=b"\0")), unreadable, "another format"),
        Kind(
            "vox_offset 0", write("a.nii", nifti(vox_offset=0)), unreadable, "at least 352.* has 0"
        ),
        Kind(
            "vox_offset 0, NIfTI-2", write("a.nii", nifti_2(0)), unreadable, "at least 544.* has 0"
        ),
        Kind("vox_offset NaN", write("a.nii", nifti(vox_offset=math.nan)), unreadable, "has nan"),
        Kind(
            "vox_offset behind the end",
            write("a.nii", nifti(vox_offset=1e6)),
            unreadable,
            "cut off",
        ),
        Kind(
            "qform and sform unset",
            write("a.nii", nifti(sform_code=0)),
            geometry,
            r"codes in .* are \[0\]",
        ),
        Kind(
            "a code of sform that does not exist",
            write("a.nii", nifti(sform_code=99)),
            geometry,
            r"are \[0, 99\]",
        ),
        Kind(
            "pixdim 0",
            write("a.nii", nifti(pixdim=[1, 0.5, 0.75, 0, 1, 1, 1, 1])),
            geometry,
            "above 0",
        ),
        Kind(
            "pixdim negative",
            write("a.nii", nifti(pixdim=[1, -0.5, 0.75, 3, 1, 1, 1, 1])),
            geometry,
            "above 0",
        ),
        Kind(
            "pixdim NaN",
            write("a.nii", nifti(pixdim=[1, math.nan, 0.75, 3, 1, 1, 1, 1])),
            geometry,
            "finite",
        ),
        Kind(
            "pixdim that contradicts sform",
            write("a.nii", nifti(pixdim=[1, 0.5, 0.75, 5, 1, 1, 1, 1])),
            geometry,
            "must agree",
        ),
        Kind("units of metres", write("a.nii", nifti(xyzt_units=1)), geometry, "says metre"),
        Kind("units without meaning", write("a.nii", nifti(xyzt_units=7)), geometry, "says code 7"),
        Kind("sform of NaN", write("a.nii", nifti(srow=[math.nan, *eye[1:]])), geometry, "finite"),
        Kind(
            "sheared sform",
            write("a.nii", nifti(srow=[0.5, 0.2, *eye[2:]])),
            geometry,
            "orthogonal|agree",
        ),
        Kind(
            "quaternion that is none",
            write(
                "a.nii",
                nifti(sform_code=0, qform_code=1)[:256]
                + struct.pack("<3f", 5, 5, 5)
                + nifti()[268:],
            ),
            geometry,
            "rules of NIfTI",
        ),
        Kind("slope infinite", write("a.nii", nifti(scl_slope=math.inf)), intensity, "has inf"),
        Kind("slope NaN", write("a.nii", nifti(scl_slope=math.nan)), intensity, "has nan"),
        Kind("slope 1e−38", write("a.nii", nifti(scl_slope=1e-38)), intensity, "has 1e-38"),
        Kind("intercept infinite", write("a.nii", nifti(scl_inter=math.inf)), intensity, "and inf"),
        Kind(
            "an extent of 0",
            write("a.nii", nifti(dim=[3, 6, 0, 5, 1, 1, 1, 1])),
            geometry,
            "at least 1",
        ),
        Kind(
            "an extent of −7",
            write("a.nii", nifti(dim=[3, 6, -7, 5, 1, 1, 1, 1])),
            geometry,
            "at least 1",
        ),
        Kind(
            "9 axes",
            write("a.nii", nifti(dim=[9, 6, 7, 5, 1, 1, 1, 1])),
            geometry,
            "1 to 7 extents",
        ),
        Kind("complex voxels", write("a.nii", nifti(datatype=32)), unreadable, "holds complex64"),
        Kind("colour", write("a.nii", nifti(datatype=128)), unreadable, "holds RGB"),
        Kind("datatype unknown", write("a.nii", nifti(datatype=3)), unreadable, "holds datatype 3"),
        Kind(
            "two volumes",
            write("a.nii", nifti(np.stack([VOXELS] * 2, -1))),
            "ChannelError",
            "has 2",
        ),
        Kind(
            "2000³ voxels claimed",
            write("a.nii", nifti(dim=big)),
            unreadable,
            "at most 1073741824",
            is_bomb=True,
        ),
        Kind(
            "2000³ voxels claimed, gzip",
            write("a.nii.gz", gzip.compress(nifti(dim=big))),
            unreadable,
            "at most",
            is_bomb=True,
        ),
        Kind(
            "500³ voxels claimed, gzip",
            write("a.nii.gz", gzip.compress(nifti(dim=[3, 500, 500, 500, 1, 1, 1, 1]))),
            unreadable,
            "too few bytes",
        ),
        Kind(
            "gzip bomb behind the voxels",
            write("a.nii.gz", lambda: bomb_gzip(256 * MEBIBYTE)),
            unreadable,
            "far more",
            is_bomb=True,
        ),
        Kind("a pipe", make_fifo("a.nii"), unreadable, "pipe or device", is_bomb=True),
        Kind(
            "a link to /dev/zero",
            link("a.nii", "/dev/zero"),
            unreadable,
            "pipe or device",
            is_bomb=True,
        ),
    ]


def make_fifo(name: str) -> Make:
    """A pipe that nobody writes into."""

    def make(folder: Path) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    return make


def link(name: str, target: str) -> Make:
    """A link."""

    def make(folder: Path) -> Path:
        (folder / name).symlink_to(target)
        return folder / name

    return make


def _meta_kinds() -> list[Kind]:
    geometry, unreadable = "GeometryError", "UnreadableImageError"
    squeezed = zlib.compress(raw())
    packed: dict[str, Any] = {"CompressedData": "True", "CompressedDataSize": len(squeezed)}

    def beside(name: str, data: Callable[[Path], Any], **edits: Any) -> Make:
        return detached("a.mhd", meta(b"", data=name, **edits), data)

    def there(folder: Path) -> None:
        (folder / "a.raw").write_bytes(raw())
        (folder.parent / "b.raw").write_bytes(raw())

    def outside(folder: Path) -> None:
        there(folder)
        (folder / "c.raw").symlink_to(folder.parent / "b.raw")

    four: dict[str, Any] = {
        "NDims": 4,
        "TransformMatrix": "-1 0 0 0 0 -1 0 0 0 0 1 0 0 0 0 1",
        "Offset": "10 -20 30 0",
        "ElementSpacing": "0.5 0.75 3 1",
    }
    return [
        good("MetaImage", write("a.mha", meta())),
        good("MetaImage, zlib", write("a.mha", meta(squeezed, **packed))),
        good("MetaImage, voxels beside", beside("a.raw", there)),
        good(
            "MetaImage, zlib beside",
            beside("a.zraw", lambda f: (f / "a.zraw").write_bytes(squeezed), CompressedData="True"),
        ),
        good("MetaImage, int8", write("a.mha", meta(kind="i1"))),
        good("MetaImage, int64", write("a.mha", meta(kind="i8"))),
        good("MetaImage, 4D of one volume", write("a.mha", meta(**four, DimSize="6 7 5 1"))),
        good(
            "MetaImage, CRLF in the header",
            write("a.mha", meta(b"").replace(b"\n", b"\r\n") + raw()),
        ),
        Kind(
            "zlib damaged, size intact",
            write("a.mha", meta(flipped(squeezed, -3), **packed)),
            unreadable,
            "damaged",
        ),
        Kind("zlib cut off", write("a.mha", meta(squeezed[:-40], **packed)), unreadable, "cut off"),
        Kind(
            "no ElementSpacing",
            write("a.mha", meta(ElementSpacing=None)),
            geometry,
            "must have ElementSpacing",
        ),
        Kind(
            "no TransformMatrix",
            write("a.mha", meta(TransformMatrix=None)),
            geometry,
            "must have TransformMatrix",
        ),
        Kind(
            "ElementSpacing negative",
            write("a.mha", meta(ElementSpacing="0.5 -0.75 3")),
            geometry,
            "above 0",
        ),
        Kind(
            "ElementSpacing 0", write("a.mha", meta(ElementSpacing="0.5 0 3")), geometry, "above 0"
        ),
        Kind(
            "ElementSpacing NaN",
            write("a.mha", meta(ElementSpacing="0.5 nan 3")),
            geometry,
            "finite",
        ),
        Kind(
            "two ElementSpacings for three axes",
            write("a.mha", meta(ElementSpacing="0.5 0.75")),
            geometry,
            "3 finite",
        ),
        Kind(
            "TransformMatrix of length 2",
            write("a.mha", meta(TransformMatrix="2 0 0 0 1 0 0 0 1")),
            geometry,
            "length 1",
        ),
        Kind("DistanceUnits cm", write("a.mha", meta(DistanceUnits="cm")), geometry, "must be mm"),
        Kind(
            "ElementToIntensityFunctionSlope 2",
            write("a.mha", meta(ElementToIntensityFunctionSlope=2)),
            "IntensityError",
            "Slope must be 1",
        ),
        Kind("DimSize negative", write("a.mha", meta(DimSize="6 -7 5")), geometry, "at least 1"),
        Kind("HeaderSize −1", write("a.mha", meta(HeaderSize=-1)), unreadable, "has -1"),
        Kind(
            "a field twice", write("a.mha", b"NDims = 2\n" + meta()), unreadable, "something twice"
        ),
        Kind(
            "no ElementDataFile",
            write("a.mha", meta().split(b"ElementDataFile")[0]),
            unreadable,
            "no end",
        ),
        Kind(
            "voxels as text", write("a.mha", meta(BinaryData="False")), unreadable, "binary voxels"
        ),
        Kind("MetaImage, voxels cut off", write("a.mha", meta(raw()[:-9])), unreadable, "cut off"),
        Kind(
            "MetaImage, two volumes",
            write("a.mha", meta(raw() * 2, **four, DimSize="6 7 5 2")),
            "ChannelError",
            "has 2",
        ),
        Kind("voxels in ../", beside("../b.raw", there), unreadable, "another place"),
        Kind(
            "voxels at an absolute path", beside("/etc/passwd", there), unreadable, "another place"
        ),
        Kind(
            "voxels behind a link that leads out",
            beside("c.raw", outside),
            unreadable,
            "another place",
        ),
        Kind("a LIST of files", beside("LIST", there), unreadable, "another place"),
        Kind("a pattern of files", beside("a%d.raw 1 5 1", there), unreadable, "another place"),
        Kind("the header as voxels", beside("a.mhd", there), unreadable, "another place"),
        Kind("no file of voxels", beside("d.raw", there), unreadable, "is not"),
        Kind(
            "a pipe as voxels",
            beside("p.raw", lambda f: os.mkfifo(f / "p.raw")),
            unreadable,
            "pipe or device",
            is_bomb=True,
        ),
        Kind(
            "/dev/zero as voxels",
            beside("/dev/zero", there),
            unreadable,
            "another place",
            is_bomb=True,
        ),
        Kind(
            "/proc/self/environ as voxels",
            beside("/proc/self/environ", there),
            unreadable,
            "another place",
        ),
        Kind(
            "zlib bomb",
            write("a.mha", lambda: meta(zeros(256 * MEBIBYTE), **packed)),
            unreadable,
            "far more",
            is_bomb=True,
        ),
        Kind(
            "zlib bomb of a claimed size",
            write("a.mha", meta(squeezed, **{**packed, "DimSize": "1024 1024 768"})),
            unreadable,
            "at most 1073741824",
            is_bomb=True,
        ),
        Kind(
            "MetaImage, 2000³ voxels claimed",
            write("a.mha", meta(DimSize="2000 2000 2000")),
            unreadable,
            "at most 1073741824",
            is_bomb=True,
        ),
    ]


def _nrrd_kinds() -> list[Kind]:
    geometry, unreadable = "GeometryError", "UnreadableImageError"
    squeezed = gzip.compress(raw())
    straight = "({},0,0) (0,{},0) (0,0,{})".format(*SPACING)
    ras: dict[str, Any] = {
        "space": "right-anterior-superior",
        "space_directions": straight,
        "space_origin": "({},{},{})".format(*ORIGIN_RAS),
    }
    list_first: dict[str, Any] = {
        "dimension": 4,
        "sizes": "1 6 7 5",
        "kinds": "list domain domain domain",
    }

    def beside(name: str, data: Callable[[Path], Any]) -> Make:
        return detached("a.nrrd", nrrd(b"", data_file=name), data)

    def there(folder: Path) -> None:
        (folder / "a.raw").write_bytes(raw())
        (folder.parent / "b.raw").write_bytes(raw())

    return [
        good("NRRD", write("a.nrrd", nrrd())),
        good("NRRD, gzip", write("a.nrrd", nrrd(squeezed, encoding="gzip"))),
        good("NRRD in RAS", write("a.nrrd", nrrd(**ras))),
        good("NRRD, voxels beside", beside("a.raw", there)),
        good("NRRD, int8", write("a.nrrd", nrrd(kind="i1", endian=None))),
        good("NRRD, int64", write("a.nrrd", nrrd(kind="i8"))),
        good(
            "NRRD, 4D of one volume",
            write(
                "a.nrrd",
                nrrd(**{**list_first, "space_directions": f"none {BACKWARDS}"}),
            ),
        ),
        good("NRRD, byte skip 9", write("a.nrrd", nrrd(bytes(9) + raw(), byte_skip=9))),
        good("NRRD, space units mm", write("a.nrrd", nrrd(space_units='"mm" "mm" "mm"'))),
        Kind(
            "NRRD, gzip damaged",
            write("a.nrrd", nrrd(flipped(squeezed, -6), encoding="gzip")),
            unreadable,
            "damaged",
        ),
        Kind(
            "NRRD, gzip cut off",
            write("a.nrrd", nrrd(squeezed[:-40], encoding="gzip")),
            unreadable,
            "cut off",
        ),
        Kind(
            "space units cm",
            write("a.nrrd", nrrd(space_units='"cm" "cm" "cm"')),
            geometry,
            "must be mm",
        ),
        Kind(
            "units of an axis cm",
            write("a.nrrd", nrrd(units='"cm" "cm" "cm"')),
            geometry,
            "must be mm",
        ),
        Kind("no space", write("a.nrrd", nrrd(space=None)), geometry, "another or none"),
        Kind(
            "a space of three axes only",
            write("a.nrrd", nrrd(space=None, space_dimension=3)),
            geometry,
            "another or none",
        ),
        Kind(
            "space scanner-xyz",
            write("a.nrrd", nrrd(space="scanner-xyz")),
            geometry,
            "another or none",
        ),
        Kind(
            "no space directions",
            write("a.nrrd", nrrd(space_directions=None)),
            geometry,
            "would be a guess",
        ),
        Kind(
            "spacings without directions",
            write("a.nrrd", nrrd(space_directions=None, spacings="0.5 0.75 3")),
            geometry,
            "would be a guess",
        ),
        Kind(
            "direction none",
            write("a.nrrd", nrrd(space_directions="none (0,0.75,0) (0,0,3)")),
            geometry,
            "2 of 'a.nrrd'",
        ),
        Kind(
            "direction NaN",
            write("a.nrrd", nrrd(space_directions="(nan,0,0) (0,0.75,0) (0,0,3)")),
            geometry,
            "finite",
        ),
        Kind(
            "direction of length 0",
            write("a.nrrd", nrrd(space_directions="(0,0,0) (0,0.75,0) (0,0,3)")),
            geometry,
            "2 of 'a.nrrd'",
        ),
        Kind(
            "direction of length 1e−320",
            write("a.nrrd", nrrd(space_directions="(-0.5,0,0) (0,1e-320,0) (0,0,3)")),
            geometry,
            "2 of 'a.nrrd'",
        ),
        Kind("byte skip −1", write("a.nrrd", nrrd(byte_skip=-1)), unreadable, "0 and -1"),
        Kind("line skip 1", write("a.nrrd", nrrd(line_skip=1)), unreadable, "1 and 0"),
        Kind("no endian", write("a.nrrd", nrrd(endian=None)), unreadable, "say its endian"),
        Kind("type block", write("a.nrrd", nrrd(type="block")), unreadable, "type of real numbers"),
        Kind(
            "encoding bzip2",
            write("a.nrrd", nrrd(bz2.compress(raw()), encoding="bzip2")),
            unreadable,
            "raw or gzip",
        ),
        Kind(
            "encoding text",
            write("a.nrrd", nrrd(" ".join(map(str, VOXELS.ravel("F"))).encode(), encoding="ascii")),
            unreadable,
            "raw or gzip",
        ),
        Kind("sizes of 0", write("a.nrrd", nrrd(sizes="6 0 5")), geometry, "at least 1"),
        Kind("NRRD, voxels cut off", write("a.nrrd", nrrd(raw()[:-9])), unreadable, "cut off"),
        Kind("NRRD, voxels in ../", beside("../b.raw", there), unreadable, "another place"),
        Kind(
            "NRRD, voxels at an absolute path",
            beside("/etc/passwd", there),
            unreadable,
            "another place",
        ),
        Kind("NRRD, a LIST of files", beside("LIST", there), unreadable, "another place"),
        Kind(
            "NRRD, a pipe as voxels",
            beside("p.raw", lambda f: os.mkfifo(f / "p.raw")),
            unreadable,
            "pipe or device",
            is_bomb=True,
        ),
        Kind(
            "NRRD, 2000³ voxels claimed",
            write("a.nrrd", nrrd(sizes="2000 2000 2000")),
            unreadable,
            "at most 1073741824",
            is_bomb=True,
        ),
        Kind(
            "NRRD, 600³ voxels claimed, gzip",
            write("a.nrrd", nrrd(squeezed, encoding="gzip", sizes="600 600 600")),
            unreadable,
            "too few bytes",
        ),
    ]


KINDS = (*_nifti_kinds(), *_meta_kinds(), *_nrrd_kinds())
