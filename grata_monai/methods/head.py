"""Heads that methods need and that only a training at the source can give."""

from torch import nn

from grata_monai.adapt.heads import SupportsAuxiliaryTasks

__all__ = ["refuse_without_head"]


def refuse_without_head(network: nn.Module, task: str) -> str:
    """Say that the network has no head for a task, and how to get one; empty if it has."""
    if isinstance(network, SupportsAuxiliaryTasks) and task in network.auxiliary_tasks:
        return ""
    return (
        f"{type(network).__name__} was trained without a head for {task!r}, and none can be added "
        f"afterwards. Train it with one: --heads \"['{task}']\" (docs/how-to/train.md)."
    )
