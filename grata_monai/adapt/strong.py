"""Strong views: intensities change as between scanners, geometry does not.

The paper applies five transforms of batchgenerators in a row, then min–max scaling. What its
names hide, and we follow (authors' code `style_aug.py`, batchgenerators 0.25):

- the "variance" of the noise is used as its standard deviation;
- contrast and gamma are below 1 in half of the draws and above 1 in the other half;
- brightness, contrast, gamma and blur draw once per channel, noise once per case;
- blur tosses a second coin per channel, so that a channel is blurred in a quarter of the cases;
- contrast changes are cut off at the channel's own range.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from grata_monai.core.errors import RecipeError
from grata_monai.core.types import Images

__all__ = ["STRONG_VIEWS", "Draw", "StrongView"]

_GAMMA_EPSILON = 1e-7
_BLUR_TRUNCATION = 4.0  # in standard deviations, as scipy.ndimage.gaussian_filter


@dataclass(frozen=True)
class Draw:
    """How one transform draws its number.

    Attributes:
        lowest: Least value.
        highest: Greatest value.
        probability: That the transform is applied to a case, in [0, 1].
    """

    lowest: float
    highest: float
    probability: float

    def __post_init__(self) -> None:
        """Check range and probability."""
        if not 0 <= self.lowest <= self.highest < float("inf"):
            raise RecipeError(
                f"lowest and highest must satisfy 0 <= lowest <= highest, got {self.lowest} and "
                f"{self.highest}. Swap or change them."
            )
        if not 0 <= self.probability <= 1:
            raise RecipeError(
                f"probability must lie in [0, 1], got {self.probability}. Use 0 to switch off."
            )

    def uniform(self, position: Tensor) -> Tensor:
        """Map numbers in [0, 1) evenly onto the range."""
        return self.lowest + (self.highest - self.lowest) * position

    def around_one(self, position: Tensor) -> Tensor:
        """Map [0, .5) onto the range's part below 1, the rest onto its part above 1."""
        if not self.lowest < 1 < self.highest:
            return self.uniform(position)
        below = self.lowest + (1 - self.lowest) * 2 * position
        above = 1 + (self.highest - 1) * (2 * position - 1)
        return torch.where(position < 0.5, below, above)


@dataclass(frozen=True)
class StrongView:
    """Change brightness, contrast, gamma, noise and sharpness at random, in this order.

    Attributes:
        brightness: Factor of the intensities, evenly in its range.
        contrast: Factor of their distance from the channel's mean, then cut off at its range.
        gamma: Exponent on the inverted, range-normalised intensities.
        noise: Standard deviation of Gaussian noise, in units of the intensities.
        blur: Standard deviation of a Gaussian along every spatial axis, in voxels.
        blur_per_channel: Probability that a channel of a case chosen for blurring is blurred.
        rescale: Whether each case is scaled to [0, 1] over all channels at the end; otherwise each
            channel is cut off at the range that it had at the beginning.

    Source:
        Chen et al., AAAI 2025; the defaults are the authors' `get_strong_style_transform` and
        `normalize_image_to_0_1`.
    """

    brightness: Draw = Draw(0.5, 1.5, 0.75)
    contrast: Draw = Draw(0.5, 1.5, 0.75)
    gamma: Draw = Draw(0.5, 2.0, 0.75)
    noise: Draw = Draw(0.0, 0.05, 0.5)
    blur: Draw = Draw(0.5, 1.5, 0.5)
    blur_per_channel: float = 0.5
    rescale: bool = True

    @torch.no_grad()
    def __call__(self, images: Images, *, generator: torch.Generator) -> Images:
        """Draw a strong view.

        Args:
            images: (b, c, *s); left as they are.
            generator: Draws every number, on its own device: the same state gives the same numbers
                wherever the images lie. It advances alike whatever is applied.

        Returns:
            Images of the same shape, dtype and device; finite if the images are.
        """
        exact = images.detach().to(torch.promote_types(images.dtype, torch.float32))
        view = exact
        for transform in (_brighten, _stretch, _bend, _add_noise, _blur):
            view = transform(self, view, generator)
        if self.rescale:
            lowest, highest = _range(view, first=1)
            view = (view - lowest) / (highest - lowest).clamp_min(1e-12)
        else:
            lowest, highest = _range(exact)
            view = view.clamp(lowest, highest)
        return view.to(images.dtype)


STRONG_VIEWS: Mapping[str, StrongView] = {
    "paper": StrongView(),
    "mild": StrongView(
        brightness=Draw(0.8, 1.2, 0.75),
        contrast=Draw(0.8, 1.2, 0.75),
        gamma=Draw(0.7, 1.4, 0.75),
        noise=Draw(0.0, 0.02, 0.5),
        blur=Draw(0.4, 0.8, 0.5),
        rescale=False,
    ),
}
"""The strong views that a recipe can name: the paper's, and milder ones that keep the range."""


def _brighten(view: StrongView, images: Tensor, generator: torch.Generator) -> Tensor:
    is_chosen, position = _draw(images, view.brightness.probability, generator)
    return torch.where(is_chosen, images * view.brightness.uniform(position), images)


def _stretch(view: StrongView, images: Tensor, generator: torch.Generator) -> Tensor:
    is_chosen, position = _draw(images, view.contrast.probability, generator)
    mean = images.mean(list(range(2, images.ndim)), keepdim=True)
    stretched = (images - mean) * view.contrast.around_one(position) + mean
    return torch.where(is_chosen, stretched.clamp(*_range(images)), images)


def _bend(view: StrongView, images: Tensor, generator: torch.Generator) -> Tensor:
    is_chosen, position = _draw(images, view.gamma.probability, generator)
    lowest, highest = _range(-images)
    width = highest - lowest + _GAMMA_EPSILON
    bent = ((-images - lowest) / width) ** view.gamma.around_one(position) * width + lowest
    return torch.where(is_chosen, -bent, images)


def _add_noise(view: StrongView, images: Tensor, generator: torch.Generator) -> Tensor:
    is_chosen, position = _draw(images, view.noise.probability, generator)
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
    return torch.where(is_chosen, images + noise * view.noise.uniform(position[:, :1]), images)


def _blur(view: StrongView, images: Tensor, generator: torch.Generator) -> Tensor:
    is_chosen, position = _draw(images, view.blur.probability, generator)
    coin = torch.rand(images.shape[:2], generator=generator, device=generator.device)
    is_chosen = is_chosen & (coin.view(position.shape) < view.blur_per_channel).to(images.device)
    if not bool(is_chosen.any()):
        return images
    blurred = images
    sigma = view.blur.uniform(position)
    for axis in range(2, images.ndim):
        blurred = _blur_axis(blurred, sigma, axis)
    return torch.where(is_chosen, blurred, images)


def _blur_axis(images: Tensor, sigma: Tensor, axis: int) -> Tensor:
    """Convolve an axis with a Gaussian per channel; the image goes on as its mirror image."""
    reach = (_BLUR_TRUNCATION * sigma + 0.5).floor()
    radius, extent = int(reach.max()), images.shape[axis]
    offsets = range(-radius, radius + 1)
    kernel = [
        torch.exp(-0.5 * (i / sigma.clamp_min(1e-6)) ** 2) * (abs(i) <= reach) for i in offsets
    ]
    index = torch.arange(-radius, extent + radius, device=images.device) % (2 * extent)
    padded = images.index_select(axis, torch.minimum(index, 2 * extent - 1 - index))
    total = torch.zeros_like(images)
    for start, weight in enumerate(kernel):
        total += weight * padded.narrow(axis, start, extent)
    return total / torch.stack(kernel).sum(0)


def _draw(images: Tensor, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Toss a coin per case, (b, 1, 1…), and a number in [0, 1) per channel, (b, c, 1…)."""
    axes = (1,) * (images.ndim - 2)
    coin = torch.rand(len(images), generator=generator, device=generator.device)
    position = torch.rand(images.shape[:2], generator=generator, device=generator.device)
    is_chosen = (coin < probability).to(images.device).view(-1, 1, *axes)
    return is_chosen, position.to(images).view(*images.shape[:2], *axes)


def _range(images: Tensor, *, first: int = 2) -> tuple[Tensor, Tensor]:
    """Least and greatest value over the axes from `first` on, shaped to broadcast."""
    axes = list(range(first, images.ndim))
    return images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
