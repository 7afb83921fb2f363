"""Change NIfTI, MetaImage and NRRD files at random, and look for an answer that is none.

Every answer must be an image or a `CaseError` with a remedy, within seconds and little memory; what
is compressed may not be damaged and read all the same. Run it with ``make fuzz``::

    python tests/measure/fuzz.py --seconds 300 --seed 0

The exit status is 1 if there was a finding; its file is kept in the folder that is named. A finding
becomes a kind of ``tests/support/image_corpus.py``.
"""

import argparse
import gzip
import hashlib
import random
import resource
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from pathlib import Path
from time import monotonic

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from image_corpus import VOXELS, meta, nifti, nifti_2, nrrd, raw

from grata_monai.core.errors import CaseError
from grata_monai.core.limits import MEBIBYTE, Limits
from grata_monai.core.sandbox import SandboxError
from grata_monai.read.decode import decode

LIMITS = Limits(pixel_budget_bytes=64 * MEBIBYTE, memory_bytes=512 * MEBIBYTE, seconds=5.0)
SLOW = 5.0  # seconds
LARGE = 1024 * MEBIBYTE
NUMBERS = (b"0", b"-1", b"1e999", b"nan", b"inf", b"99999999999", b"2147483648", b"1e-320", b"")
WORDS = (b"none", b"LIST", b"../a", b"/dev/zero", b"True", b"\0", b"%d", b"(", b"= ", b": ", b"\n")
PACKED = {"CompressedData": "True"}
SEEDS = {
    "1.nii": nifti(),
    "2.nii": nifti_2(),
    "3.nii": nifti(kind=">f4"),
    "4.nii.gz": gzip.compress(nifti(), mtime=0),
    "5.mha": meta(),
    "6.mha": meta(zlib.compress(raw()), **PACKED),
    "7.mhd": meta(b"", data="a.raw"),
    "8.nrrd": nrrd(),
    "9.nrrd": nrrd(gzip.compress(raw(), mtime=0), encoding="gzip"),
}
HEADER_END = {"4.nii.gz": 10}  # from here on every byte is held by a checksum


def mutate(content: bytes, generator: random.Random) -> bytes:
    """Change a few things: bits, bytes, numbers, words, whole pieces; mostly near the start."""
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 4, 8))):
        reach = len(data) if generator.random() < 0.3 else min(len(data), 600)
        place = generator.randrange(max(reach, 1))
        kind = generator.randrange(7)
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << generator.randrange(8)
        elif kind == 1:
            data[place : place + 1] = bytes([generator.randrange(256)])
        elif kind == 2:
            data[place : place + 4] = generator.randbytes(4)
        elif kind == 3:
            data[place : place + generator.randrange(1, 9)] = generator.choice(NUMBERS)
        elif kind == 4:
            data[place:place] = generator.choice(WORDS)
        elif kind == 5:
            del data[place : place + generator.randrange(1, 200)]
        else:
            data[place:place] = data[place : place + generator.randrange(1, 200)]
    return bytes(data)


def judge(path: Path, name: str, content: bytes) -> tuple[str, str]:
    """Read the file; name the answer, and what is wrong with it."""
    start = monotonic()
    try:
        voxels, affine = decode(path, limits=LIMITS)
    except CaseError as error:
        answer = type(error).__name__
        finding = "" if str(error).endswith(".") else "no remedy"
        if isinstance(error.__cause__, SandboxError):
            finding = "a cause that nobody foresaw"
    except Exception as error:
        answer, finding = type(error).__name__, "an error that is not ours"
    else:
        answer, finding = "read", _judge_image(voxels, affine, name, content)
    if monotonic() - start > SLOW + 1:
        finding = "too slow"
    largest = max(
        resource.getrusage(who).ru_maxrss * 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return answer, finding or ("too much memory" if largest > LARGE else "")


def _judge_image(voxels: np.ndarray, affine: np.ndarray, name: str, content: bytes) -> str:
    """Look for an image that should not have been accepted."""
    if affine.shape != (4, 4) or voxels.size * 4 > LIMITS.pixel_budget_bytes:
        return "an impossible image"
    original = SEEDS[name]
    first = HEADER_END.get(name)
    if first and content[:first] == original[:first] and content[first:] != original[first:]:
        is_same = voxels.shape == VOXELS.shape and np.array_equal(voxels, VOXELS)
        return "" if is_same else "damaged, and read all the same"
    return ""


def main() -> int:
    """Fuzz for some time and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz_findings"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    generator = random.Random(arguments.seed)
    answers: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    end = monotonic() + arguments.seconds
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.raw").write_bytes(raw())
        while monotonic() < end:
            name = generator.choice(list(SEEDS))
            content = mutate(SEEDS[name], generator)
            path = Path(folder) / name
            path.write_bytes(content)
            answer, finding = judge(path, name, content)
            answers[answer] += 1
            if finding:
                findings[finding] += 1
                arguments.keep.mkdir(exist_ok=True)
                digest = hashlib.sha256(content).hexdigest()[:16]
                (arguments.keep / f"{digest}_{name}").write_bytes(content)
                print(f"{finding}: {answer}: {digest}_{name}", flush=True)
    print(f"seed {arguments.seed}, {sum(answers.values())} files: {dict(answers.most_common())}")
    print(f"findings: {dict(findings) or 'none'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
