"""GraTa: gradient alignment for test-time adaptation, readable in one sitting.

Chen, Ye, Pan, Xia: Gradient Alignment Improves Test-Time Adaptation for Medical Image
Segmentation, AAAI 2025 (arXiv 2408.07343). One step, for a network f with moving parameters θ:

1. The auxiliary loss, an entropy, gives the gradient g_a at θ.
2. Move to θ' = θ − ρ·g_a.
3. The pseudo loss, a consistency, gives the gradient g_p at θ': without gradient, the predictions
   on weak views average to a pseudo-label, and the prediction on a strong view is held against it.
4. Back at θ, the cosine of g_a and g_p scales the learning rate, η = η₀·(cos + 1)²/4, and the
   optimiser takes one step along g_p.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from grata_monai.adapt.alignment import cosine, gradients, is_finite, perturbed, step_size
from grata_monai.adapt.losses import CONSISTENCIES, ENTROPIES, HEAD_LOSSES, probabilities
from grata_monai.adapt.method import Step
from grata_monai.adapt.mirroring import ANY_MIRRORING, Mirroring
from grata_monai.adapt.network import choose_activation, copy_network, first_tensor
from grata_monai.adapt.parameters import resolve_parameters
from grata_monai.adapt.recipe import Recipe, resolve_recipe
from grata_monai.adapt.settings import Steps
from grata_monai.adapt.statistics import mix_statistics
from grata_monai.adapt.strong import STRONG_VIEWS
from grata_monai.adapt.views import WeakView, admissible_views, average_views
from grata_monai.core.errors import AdaptationError
from grata_monai.core.precision import autocast
from grata_monai.core.types import Images, Logits, Scalar

__all__ = ["GraTa"]


class GraTa:
    """Adapt a private copy of a network, step by step; the network itself is never touched.

    Args:
        network: Any segmentation network, images (b, c, *s) to logits (b, k, *s).
        recipe: A recipe, its name, its settings, or its steps alone.
        activation: ``sigmoid``, ``softmax``, or ``auto``: sigmoid if k is 1.
        strong_view: Takes images, returns images of the same shape; the recipe's own if None.
        spacing: Of the images, in mm per axis, if known: quarter turns need equal spacing.
        mirroring: Of the network: which mirrored views it takes, and which labels have sides.
        image: A whole image (1, c, *s), needed by recipes that adapt the input.
        seed: Of the generator that draws the strong views; the recipe's own, or 0, if None.

    Attributes:
        network: The adapted copy, in evaluation mode.
        moving: The parameters that may move.

    Raises:
        NothingToAdaptError: If the network has no parameter that the recipe wants to move.
        NetworkError: If the network cannot be copied.
        RecipeError: If the recipe is wrong.
    """

    def __init__(  # noqa: PLR0913  # each is a part of the case
        self,
        network: nn.Module,
        recipe: str | Mapping[str, Any] | Recipe | Steps = "paper",
        *,
        activation: str = "auto",
        strong_view: Callable[[Tensor], Tensor] | None = None,
        spacing: tuple[float, ...] | None = None,
        mirroring: Mirroring = ANY_MIRRORING,
        image: Tensor | None = None,
        seed: int | None = None,
    ) -> None:
        if not isinstance(recipe, Steps):
            resolved = resolve_recipe(recipe)
            recipe, seed = resolved.steps, resolved.seed if seed is None else seed
        self.steps = recipe
        self.network = copy_network(network)
        self.layers_with_image_statistics = mix_statistics(self.network, self.steps.image_share)
        self.moving = resolve_parameters(self.network, self.steps.parameters, image=image)
        self.optimizer = self.steps.build_optimizer(self.moving.tensors)
        self.activation = activation
        self.spacing = spacing
        self.mirroring = mirroring
        self._strong_view = strong_view
        self._generator = torch.Generator().manual_seed(seed or 0)

    def step(self, images: Images, extents: Tensor | None = None) -> Step:
        """Take one step of GraTa on a batch of images.

        Args:
            images: (b, c, *s); left as they are.
            extents: (b, d, 2), where the images lie in a whole volume, from -1 to 1; see
                `InputAdapter`.

        Returns:
            What was done.

        Raises:
            AdaptationError: If a loss or gradient is not finite; the parameters are then as before.
        """
        with torch.inference_mode(False), torch.enable_grad():
            images = images.detach().clone()
            loss_a, gradient_a = self._differentiate(self.steps.auxiliary_loss, images, extents)
            with perturbed(self.moving.tensors, gradient_a, self.steps.perturbation):
                loss_p, gradient_p = self._differentiate(self.steps.pseudo_loss, images, extents)
            agreement = cosine(gradient_a, gradient_p)
            base_rate = self.steps.base_rate
            rate = step_size(agreement, base_rate=base_rate) if self.steps.is_dynamic else base_rate
            is_taken = self.steps.min_cosine is None or float(agreement) >= self.steps.min_cosine
            update_norm = self._update(gradient_p, float(rate)) if is_taken else 0.0
        return Step(
            auxiliary_loss=float(loss_a),
            pseudo_loss=float(loss_p),
            cosine=float(agreement),
            rate=float(rate),
            update_norm=update_norm,
            is_taken=is_taken,
        )

    def adapt(self, images: Images, extents: Tensor | None = None) -> Iterator[Step]:
        """Take the recipe's steps one by one; the first that is not taken ends the adaptation."""
        for _ in range(self.steps.count):
            step = self.step(images, extents)
            yield step
            if not step.is_taken:
                return

    def state_dict(self) -> dict[str, Any]:
        """Copy what adaptation changes: parameters, the optimiser's moments, the generator."""
        return {
            "parameters": self.moving.snapshot(),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` returned, bit for bit."""
        self.moving.restore(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])

    @torch.no_grad()
    def predict(self, images: Images, extents: Tensor | None = None) -> Logits:
        """Predict logits with the adapted copy."""
        return self._forward(images, extents)

    def adapt_input(self, images: Tensor, extents: Tensor | None = None) -> Tensor:
        """Pass images through the input adapter, if the recipe has one."""
        adapter = self.moving.input_adapter
        return images if adapter is None else adapter(images, extents)

    def _forward(self, images: Tensor, extents: Tensor | None = None) -> Tensor:
        with autocast(images.device, self.steps.precision):
            logits = self.network(self.adapt_input(images, extents))
        return first_tensor(logits).float()

    def _differentiate(
        self, loss: str, images: Tensor, extents: Tensor | None
    ) -> tuple[Scalar, list[Tensor]]:
        """Value and gradient of a loss at the present weights, whichever role it plays."""
        value = self._loss(loss, images, extents)
        gradient = gradients(value, self.moving.tensors)
        if not is_finite([value, *gradient]):
            raise AdaptationError(
                "losses and gradients must be finite, got NaN or infinity. "
                "Use a smaller base_rate or perturbation, or precision='fp32'."
            )
        return value.detach(), gradient

    def _loss(self, name: str, images: Tensor, extents: Tensor | None) -> Scalar:
        if name in HEAD_LOSSES:
            adapted = self.adapt_input(images, extents)
            return HEAD_LOSSES[name](self.network, adapted, generator=self._generator)
        if name in CONSISTENCIES:
            label, weights = self._pseudo_label(images, extents)
            logits = self._forward(self._strengthen(images), extents)
            return CONSISTENCIES[name](logits, label, self._activation(logits), weights)
        logits = self._forward(images, extents)
        return ENTROPIES[name](logits, self._activation(logits))

    @torch.no_grad()
    def _pseudo_label(self, images: Tensor, extents: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Average the predictions on the weak views, each over the voxels that it saw."""
        images = self.adapt_input(images, extents)
        views, _ = self.weak_views(images)

        def predict(view: WeakView) -> Tensor:
            with autocast(images.device, self.steps.precision):
                logits = first_tensor(self.network(view.apply(images))).float()
            return probabilities(logits, self._activation(logits))

        label, seen = average_views(images, views, predict)
        return label, None if bool((seen > 0).all()) else (seen > 0).float()

    def _strengthen(self, images: Tensor) -> Tensor:
        if self._strong_view is not None:
            return self._strong_view(images)
        return STRONG_VIEWS[self.steps.strong_view](images, generator=self._generator)

    def _update(self, gradient: list[Tensor], rate: float) -> float:
        before = self.moving.snapshot()
        for parameter, direction in zip(self.moving.tensors, gradient, strict=True):
            parameter.grad = direction
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            changes = [
                (parameter - value).double().square().sum()
                for parameter, value in zip(self.moving.tensors, before, strict=True)
            ]
        return float(torch.stack(changes).sum().sqrt())

    def weak_views(self, images: Tensor) -> tuple[list[WeakView], dict[str, str]]:
        """Split the recipe's weak views into those that fit the images and those dropped, why."""
        shape = tuple(images.shape[2:])
        return admissible_views(
            self.steps.weak_views,
            spatial_shape=shape,
            spacing=self.spacing,
            mirroring=self.mirroring,
        )

    def _activation(self, logits: Tensor) -> str:
        return choose_activation(self.activation, logits.shape[1])
