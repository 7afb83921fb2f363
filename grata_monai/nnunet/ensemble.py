"""Hold the folds of an nnU-Net as one network, which one episode adapts and judges."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["Ensemble", "list_members"]


class Ensemble(nn.Module):
    """Several networks whose logits are averaged.

    Where gradients are asked for, one member's activations at a time are held in memory, and
    computed a second time on the way back.

    Args:
        members: At least one, of equal inputs and outputs.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean of the members' logits (b, k, *s)."""
        total = self._predict(self.members[0], images)
        for member in self.members[1:]:
            total = total + self._predict(member, images)
        return total / len(self.members)

    def _predict(self, member: nn.Module, images: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            logits: Tensor = member(images)
            return logits
        return torch.as_tensor(checkpoint(member, images, use_reentrant=False))


def list_members(network: nn.Module) -> list[nn.Module]:
    """List the networks of which one consists: itself, if it is no ensemble."""
    return list(network.members) if isinstance(network, Ensemble) else [network]
