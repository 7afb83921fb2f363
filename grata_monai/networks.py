"""Networks with auxiliary heads: train them, and recipes and methods can adapt through a head.

`add_heads` gives heads to the bundle's architecture; `MultiTaskUNet` is an example from scratch.
Any network can offer heads; see `grata_monai.adapt.heads` for the two names that it takes.
"""

import itertools
from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.nn import functional

from grata_monai.adapt.heads import ANSWERS, HEAD_LOSSES
from grata_monai.core.errors import NetworkError
from grata_monai.core.types import Images, Logits

__all__ = ["ClassPrompts", "DynUNetWithHeads", "MultiTaskUNet", "add_heads"]

_Norm = str | tuple[str, dict[str, bool]]


class MultiTaskUNet(nn.Module):
    """Encoder–decoder for segmentation whose encoder heads for every auxiliary task share.

    The restoring heads have decoders without skip connections, so that they cannot pass the image
    by the encoder, and end in a sigmoid, as intensities lie in [0, 1].

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels c of the images.
        out_channels: Channels k of the logits.
        features: Channels of each level, from full resolution down; each next level halves it.

    Attributes:
        auxiliary_tasks: The tasks that it has heads for.

    Source:
        Heads as in the authors' `ResUnet` (Chen et al., AAAI 2025), but small, one more for
        quarter turns alone, and with coarse images of full shape.
    """

    auxiliary_tasks: frozenset[str] = frozenset(HEAD_LOSSES)

    def __init__(
        self,
        *,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (8, 16, 32),
    ) -> None:
        super().__init__()
        widths = [in_channels, *features]
        self.encoder = nn.ModuleList(
            _block(spatial_dims, narrow, wide, strides=1 if level == 0 else 2)
            for level, (narrow, wide) in enumerate(itertools.pairwise(widths))
        )
        self.segmentation = _Decoder(spatial_dims, features, out_channels, has_skips=True)
        self.restoration = nn.ModuleDict(
            {
                task: _Decoder(spatial_dims, features, in_channels, has_skips=False)
                for task in sorted(self.auxiliary_tasks - ANSWERS.keys())
            }
        )
        self.answers = nn.ModuleDict(
            {task: nn.Linear(features[-1], count) for task, count in ANSWERS.items()}
        )

    def forward(self, images: Images) -> Logits:
        """Segment images.

        Args:
            images: (b, c, *s), of any extents.

        Returns:
            Logits (b, k, *s).
        """
        logits: Tensor = self.segmentation(self._encode(images))
        return logits

    def auxiliary(self, images: Images, task: str) -> Tensor:
        """Answer an auxiliary task; see `grata_monai.adapt.heads.SupportsAuxiliaryTasks`.

        Args:
            images: (b, c, *s), as the task wants them.
            task: One of `auxiliary_tasks`.

        Returns:
            Logits (b, n) for a task of n answers, otherwise images (b, c, *s) in [0, 1].

        Raises:
            ValueError: If there is no such task.
        """
        _check_task(task, self.auxiliary_tasks)
        maps = self._encode(images)
        if task in ANSWERS:
            answer: Tensor = self.answers[task](maps[-1].flatten(2).mean(2))
            return answer
        return torch.sigmoid(self.restoration[task](maps))

    def _encode(self, images: Tensor) -> list[Tensor]:
        """Features of every level, from full resolution down."""
        maps = [images]
        for block in self.encoder:
            maps.append(block(maps[-1]))
        return maps[1:]


class DynUNetWithHeads(nn.Module):
    """A DynUNet whose encoder auxiliary heads share; without heads it segments the same.

    The head for denoising has skip connections, as in the authors' DeY-Net; the other restoring
    heads have none, so that they cannot pass the image by the encoder. Restoring heads end in a
    sigmoid, as intensities lie in [0, 1].

    Args:
        network: The DynUNet, with whatever weights it has; it becomes a part.
        tasks: Names out of `grata_monai.adapt.heads.HEAD_LOSSES`, at least one.

    Attributes:
        auxiliary_tasks: The tasks.
        network: The DynUNet.

    Raises:
        NetworkError: If a task does not exist.

    Source:
        Sun et al. 2020 (TTT) and Wen et al. 2024 (DeTTA): one encoder, a branch per task.
    """

    def __init__(self, network: DynUNet, tasks: Sequence[str]) -> None:
        super().__init__()
        unknown = sorted(set(tasks) - set(HEAD_LOSSES))
        if unknown or not tasks:
            raise NetworkError(
                f"tasks must be among {', '.join(sorted(HEAD_LOSSES))}, got {list(tasks)}. "
                "Name one or more of these."
            )
        self.auxiliary_tasks = frozenset(tasks)
        self.network = network
        features = list(network.filters)
        self.heads = nn.ModuleDict()
        for task in sorted(self.auxiliary_tasks):
            if task in ANSWERS:
                self.heads[task] = nn.Linear(features[-1], ANSWERS[task])
            else:
                self.heads[task] = _Decoder(
                    network.spatial_dims,
                    features,
                    network.in_channels,
                    has_skips=task == "denoising",
                    norm=("instance", {"affine": True}),
                )

    def forward(self, images: Images) -> Tensor:
        """Segment images (b, c, *s): what the DynUNet returns."""
        output: Tensor = self.network(images)
        return output

    def auxiliary(self, images: Images, task: str) -> Tensor:
        """Answer an auxiliary task; see `grata_monai.adapt.heads.SupportsAuxiliaryTasks`.

        Args:
            images: (b, c, *s), as the task wants them.
            task: One of `auxiliary_tasks`.

        Returns:
            Logits (b, n) for a task of n answers, otherwise images (b, c, *s) in [0, 1].

        Raises:
            ValueError: If there is no such task.
        """
        _check_task(task, self.auxiliary_tasks)
        blocks = [self.network.input_block, *self.network.downsamples, self.network.bottleneck]
        maps = [images]
        for block in blocks:
            maps.append(block(maps[-1]))
        if task in ANSWERS:
            answer: Tensor = self.heads[task](maps[-1].flatten(2).mean(2))
            return answer
        restored = self.heads[task](maps[1:])
        if restored.shape != images.shape:
            mode = "trilinear" if images.ndim == 5 else "bilinear"
            restored = functional.interpolate(restored, tuple(images.shape[2:]), mode=mode)
        return torch.sigmoid(restored)


def add_heads(network: nn.Module, tasks: Sequence[str]) -> nn.Module:
    """Give a DynUNet heads, to be trained together with it.

    Args:
        network: A DynUNet; becomes a part of what is returned.
        tasks: Names out of `grata_monai.adapt.heads.HEAD_LOSSES`; none leaves the network alone.

    Returns:
        The network with heads, on the same device; the network itself without tasks.

    Raises:
        NetworkError: If a task does not exist, or the network is no DynUNet.
    """
    if not tasks:
        return network
    if not isinstance(network, DynUNet):
        raise NetworkError(
            f"network must be a DynUNet to be given heads, got {type(network).__name__}. "
            "Give it heads of its own: docs/how-to/bring-a-head.md says how."
        )
    like = next(network.parameters())
    return DynUNetWithHeads(network, tasks).to(like.device, like.dtype)


class ClassPrompts(nn.Module):
    """A network that waits for class prompts, such as VISTA3D, as one of images alone.

    Args:
        network: Called as ``network(images, class_vector=…)`` with one image; gives (n, 1, *s).
        classes: What to ask for: n numbers of classes, as the network counts them.

    Attributes:
        network: The network; its weights are the module's.
    """

    def __init__(self, network: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.classes = tuple(classes)

    def forward(self, images: Images) -> Logits:
        """Segment images.

        Args:
            images: (b, c, *s).

        Returns:
            Logits (b, n, *s), one channel per class, each for a sigmoid.
        """
        prompts = torch.tensor(self.classes, device=images.device)[:, None]
        answers = [self.network(image, class_vector=prompts) for image in images.split(1)]
        return torch.cat([answer.transpose(0, 1) for answer in answers])


class _Decoder(nn.Module):
    """From the deepest features back to full resolution, with or without skip connections."""

    def __init__(
        self,
        spatial_dims: int,
        features: Sequence[int],
        out_channels: int,
        *,
        has_skips: bool,
        norm: _Norm = "batch",
    ) -> None:
        super().__init__()
        self.has_skips = has_skips
        self.mode = "trilinear" if spatial_dims == 3 else "bilinear"
        self.blocks = nn.ModuleList(
            _block(spatial_dims, deep + (shallow if has_skips else 0), shallow, norm=norm)
            for deep, shallow in itertools.pairwise(reversed(features))
        )
        self.last = Convolution(
            spatial_dims, features[0], out_channels, kernel_size=1, conv_only=True
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Decode the encoder's features (full resolution first) to maps (b, k, *s)."""
        decoded = maps[-1]
        for block, skip in zip(self.blocks, reversed(maps[:-1]), strict=True):
            shape = tuple(skip.shape[2:])
            decoded = functional.interpolate(decoded, shape, mode=self.mode, align_corners=False)
            decoded = block(torch.cat([decoded, skip], 1) if self.has_skips else decoded)
        answer: Tensor = self.last(decoded)
        return answer


def _block(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    *,
    strides: int = 1,
    norm: _Norm = "batch",
) -> Convolution:
    return Convolution(
        spatial_dims, in_channels, out_channels, strides=strides, norm=norm, act="relu"
    )


def _check_task(task: str, tasks: frozenset[str]) -> None:
    if task not in tasks:
        raise ValueError(
            f"task must be one of {', '.join(sorted(tasks))}, got {task!r}. Choose one of these."
        )
