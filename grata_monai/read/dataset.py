"""Prepare case after case; one that fails becomes a message, and the others go on."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data.utils import list_data_collate
from torch.utils.data import Dataset

from grata_monai.core.failures import CaseFailure
from grata_monai.read.cases import strip_extension

__all__ = ["CaseDataset", "collate_cases"]

logger = logging.getLogger(__name__)


class CaseDataset(Dataset[dict[str, Any]]):
    """Cases and the transform that prepares them.

    Args:
        data: One dictionary per case, as `list_cases` makes them.
        transform: From such a dictionary to what the network takes.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self.data, self.transform = data, transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        """Prepare a case; if that fails, return ``{"case": name, "failure": CaseFailure}``."""
        item = dict(self.data[index])
        if self.transform is None:
            return item
        case = str(item.get("case") or strip_extension(Path(str(item.get("image", index))).name))
        try:
            return self.transform(item)
        except Exception as error:  # whatever happened to this case must not stop the others
            logger.debug("case %s failed", case, exc_info=True)
            return {"case": case, "failure": CaseFailure.explain(case, error)}


def collate_cases(batch: Sequence[Any]) -> Any:
    """Make a batch of prepared cases; a failed case passes through unchanged.

    Args:
        batch: Items of a `CaseDataset`.

    Returns:
        MONAI's collated batch, or the failure.

    Raises:
        ValueError: If a failed case is batched with others.
    """
    has_failed = any(isinstance(item, Mapping) and "failure" in item for item in batch)
    if not has_failed:
        return list_data_collate(batch)
    if len(batch) > 1:
        raise ValueError(
            f"batch_size must be 1 where a case may fail, got {len(batch)}. Set batch_size to 1."
        )
    return batch[0]
