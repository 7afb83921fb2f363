"""Remember in the output folder which cases are done, so that the same command goes on."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grata_monai.core.files import atomic_path

__all__ = ["Ledger", "digest_files"]


@dataclass
class Ledger:
    """What is done of a run.

    Attributes:
        folder: The output folder.
        kind: Of the cases, ``images`` or ``dicom``; each has a file of its own.
        asked: Digest of all that was asked for; another one starts anew. None never goes on.
        cases: Name to ``input`` (digest of its files), ``files`` (what was written, in the folder)
            and ``sizes``.
    """

    folder: Path
    kind: str
    asked: str | None
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, kind: str, asked: str | None) -> "Ledger":
        """Read what an earlier run of the same command has left; empty if there was none."""
        with suppress(OSError, ValueError, LookupError, TypeError):
            content = json.loads(_file(folder, kind).read_text(encoding="utf-8"))
            if asked is not None and content["asked"] == asked:
                return cls(folder, kind, asked, dict(content["cases"]))
        return cls(folder, kind, asked)

    def is_done(self, case: str, files: Iterable[Path]) -> bool:
        """Whether a case was done from these very files, and what was written is still there."""
        entry = self.cases.get(case)
        if entry is None or entry["input"] != digest_files(files):
            return False
        return all((self.folder / name).is_file() for name in entry["files"])

    def add(
        self,
        case: str,
        *,
        files: Iterable[Path],
        written: Iterable[Path],
        sizes: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Note a case that is done, on the disk too.

        Args:
            case: Its name.
            files: What it was read from.
            written: What was written for it.
            sizes: Of its segments.
        """
        names = [path.relative_to(self.folder).as_posix() for path in written]
        self.cases[case] = {"input": digest_files(files), "files": names, "sizes": sizes}
        text = json.dumps({"asked": self.asked, "cases": self.cases}, indent=1, sort_keys=True)
        with atomic_path(_file(self.folder, self.kind)) as path:
            path.write_text(text, encoding="utf-8")


def digest_files(files: Iterable[Path]) -> str:
    """Name a state of files by their names, sizes and times; what they hold is not read."""
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat() if file.exists() else None
        state = None if status is None else (status.st_size, status.st_mtime_ns)
        digest.update(f"{file.name}\0{state}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _file(folder: Path, kind: str) -> Path:
    return folder / f".done_{kind}.json"
