"""What is wrong with a bundle, and what to do about it."""

from dataclasses import asdict, dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, order=True)
class Finding:
    """One rule that a bundle breaks.

    Attributes:
        file: Path in the bundle.
        id: Of the item in that configuration, as ``--id value`` would name it; empty if it is the
            file as a whole.
        rule: Which one, in one word.
        problem: What is wrong, a sentence.
        remedy: What to do, a sentence.
    """

    file: str
    id: str
    rule: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        """Write it in one line."""
        place = f"{self.file}: {self.id}" if self.id else self.file
        return f"{place}: [{self.rule}] {self.problem} {self.remedy}"

    def to_dict(self) -> dict[str, str]:
        """Return it as plain JSON values."""
        return asdict(self)
