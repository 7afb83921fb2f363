"""Write the lock with the hashes of wheels, so that an installation without a network is exact.

``python -m tools.offline WHEELS FILE`` hashes what ``pip download`` has put into a folder. Then::

    pip install --no-index --find-links WHEELS --require-hashes -r FILE
"""

import hashlib
import sys
from pathlib import Path

from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from grata_monai.core.errors import DatasetError

__all__ = ["write_hashed"]


def write_hashed(wheels: Path, target: Path) -> int:
    """Write a line per package, with the hashes of its files.

    Args:
        wheels: Folder of wheels and source archives.
        target: Requirements to write.

    Returns:
        How many packages there are.

    Raises:
        DatasetError: If there is no such file, or a package is there in two versions.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for file in sorted(wheels.iterdir()):
        if file.suffix == ".whl":
            name, version, *_ = parse_wheel_filename(file.name)
        elif file.name.endswith(".tar.gz"):
            name, version = parse_sdist_filename(file.name)
        else:
            continue
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        found.setdefault((canonicalize_name(name), str(version)), []).append(digest)
    names = [name for name, _ in found]
    if not names or len(set(names)) != len(names):
        raise DatasetError(
            "folder of wheels must hold each package in one version, it does not. Empty it, and "
            "run: pip download -c constraints.txt -d WHEELS '.[dicom,service,sign]'"
        )
    lines = [
        f"{name}=={version} " + " ".join(f"--hash=sha256:{digest}" for digest in digests)
        for (name, version), digests in sorted(found.items())
    ]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


if __name__ == "__main__":
    print(f"{write_hashed(Path(sys.argv[1]), Path(sys.argv[2]))} packages")
