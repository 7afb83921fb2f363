"""GraTaInferer: adapt to the case, then predict with the wrapped MONAI inferer.

The adaptation lives in an inferer because that is the one part of a bundle that every host calls:
MONAI's bundle run, MONAI Label and MONAI Deploy alike.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor, nn

from grata_monai.adapt.deadline import Deadline
from grata_monai.adapt.episode import run_episode
from grata_monai.adapt.method import Episode, Method, OnlineMemory
from grata_monai.adapt.mirroring import Mirroring
from grata_monai.adapt.network import copy_network, first_tensor
from grata_monai.adapt.profile import SourceProfile
from grata_monai.adapt.recipe import Recipe, resolve_recipe
from grata_monai.adapt.result import EpisodeResult
from grata_monai.core.errors import CaseError, NetworkError, RecipeError
from grata_monai.core.limits import CASE_SECONDS, Limits
from grata_monai.core.memory import is_out_of_memory
from grata_monai.core.precision import autocast
from grata_monai.core.verified import Verified
from grata_monai.methods.registry import resolve_method
from grata_monai.options import CaseOptions, read_options
from grata_monai.read.elapsed import read_elapsed
from grata_monai.record import make_record
from grata_monai.record.maps import make_maps

__all__ = ["GraTaInferer"]

logger = logging.getLogger(__name__)

FORGED = Verified(
    is_verified=False, manifest_sha256=None, reason="only the configuration itself says so"
)


class GraTaInferer(Inferer):
    """Adapt a network to every case before the wrapped inferer predicts it.

    The network is never changed: each case works on a private copy, so that two threads may share
    one inferer and one network, and the same case gives the same prediction whatever came before.

    Args:
        inferer: Any MONAI inferer; its `roi_size`, if it has one, is the adaptation's window.
        recipe: A recipe, its name (``clinical``, ``paper``), or its settings: GraTa's steps,
            multi-scale prediction, guard and limits.
        method: What adapts: a method or its name, see `grata_monai.methods.registry`. ``grata``
            steps as the recipe says; every other one takes all but its steps from the recipe.
        guard: Whether the guard chooses what is handed on; as the recipe says if None.
        precision: Of the prediction: ``fp32``, ``bf16`` or ``fp16``. Adaptation has its own, in
            the recipe; an autocast around the call is switched off.
        activation: ``sigmoid``, ``softmax``, or ``auto``: sigmoid for one output channel.
        single_piece: Whether the target is one connected piece, such as one organ. Then nothing is
            marked where no magnified window looked; else the source's prediction stays there.
        mirroring: Which mirrored views the network takes, and which of its labels have sides: a
            `Mirroring`, or its fields by name; None for any and none.
        memory: Needed if and only if the recipe says ``memory="online"``.
        keep_source: Also hand on the source network's logits, as ``pred.meta["grata_source"]``.
        keep_maps: Also hand on what a reader is shown, as ``pred.meta["grata_maps"]``: uint8
            (b, 2, *s), see `grata_monai.record.maps`.
        bundle: What `verify_bundle` said of the bundle that this belongs to, for the record.
            Anything else, as a configuration may write it itself, counts as not verified.
        case_seconds: How long a case may take, above 0, its reading included: then no further pass
            begins, and the source network's prediction is kept.
        profile: Of the source cases, made by ``calibrate``, or the file that holds it; one of other
            weights counts as none.

    An image may bring a recipe of its own: see `grata_monai.options`.

    Raises:
        RecipeError: If a setting is wrong.
        ProfileError: If the profile cannot be read.
    """

    def __init__(  # noqa: PLR0913  # each is a line of a configuration
        self,
        inferer: Inferer,
        recipe: str | Mapping[str, Any] | Recipe = "clinical",
        *,
        method: str | Method = "grata",
        guard: bool | None = None,
        precision: str = "fp32",
        activation: str = "auto",
        single_piece: bool = False,
        mirroring: Mirroring | Mapping[str, Any] | None = None,
        memory: OnlineMemory | None = None,
        keep_source: bool = False,
        keep_maps: bool = False,
        bundle: Mapping[str, Any] | None = None,
        profile: SourceProfile | str | None = None,
        case_seconds: int | float = CASE_SECONDS,
    ) -> None:
        self.inferer = inferer
        self.recipe = resolve_recipe(recipe)
        if guard is not None:
            self.recipe = self.recipe.changed(guard=guard)
        self.method = method
        self.precision = precision
        self.activation = activation
        self.single_piece = single_piece
        self.mirroring = Mirroring.resolve(mirroring)
        self.memory = memory
        self.keep_source = keep_source
        self.keep_maps = keep_maps
        self.bundle = bundle if bundle is None or isinstance(bundle, Verified) else FORGED
        self.profile = SourceProfile.read(profile) if isinstance(profile, str) else profile
        self.case_seconds = Limits(case_seconds=case_seconds).case_seconds
        if activation not in ("auto", "sigmoid", "softmax"):
            raise RecipeError(f"activation must be auto, sigmoid or softmax, got {activation!r}.")
        autocast(torch.device("cpu"), precision)
        self._episode(CaseOptions(self.recipe, method), torch.zeros(1, 1, 1), None, (), {})

    def __call__(  # type: ignore[override]  # only a module has weights that can adapt
        self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any
    ) -> MetaTensor:
        """Predict a batch of cases, each with the network adapted to it.

        Args:
            inputs: (b, c, *s).
            network: Images to logits; left as it is.
            *args: Passed to the wrapped inferer.
            **kwargs: Passed to the wrapped inferer.

        Returns:
            Logits (b, k, *s) with the meta data of `inputs`, and the record as JSON text in
            ``meta["grata"]``: one text for a batch of one, else a list; see `Record.from_json`.

        Raises:
            NothingToAdaptError: If the network has nothing that the recipe wants to move.
            NetworkError: If the network is no module, or cannot be copied.
            WeightsError: If the image names weights that the network does not hold.
            RecipeError: If a setting that the image brings is wrong.
            AdaptationError: If adaptation fails and the recipe says ``raise``.
        """
        if not isinstance(network, nn.Module):
            raise NetworkError(
                f"network must be a torch module, got {type(network).__name__}. Put a callable "
                "into a module, or call the wrapped inferer itself: nothing of it can adapt."
            )
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        results, records = [], []
        options = read_options(inputs, CaseOptions(self.recipe, self.method))
        cases = zip(plain.split(1), options, _spacings(inputs), strict=True)
        for case, asked, spacing in cases:
            episode = self._episode(asked, case, spacing, args, kwargs)
            deadline = Deadline.of_case(self.case_seconds, read_elapsed(inputs))
            episode = replace(episode, case_deadline=deadline)
            result = self._run(asked.verify_weights(network), episode)
            record = make_record(
                result,
                replace(episode, recipe=asked.recipe),
                device=result.logits.device,
                precision=self.precision,
                bundle=self.bundle,
            )
            results.append(result)
            records.append(record.to_json())
        return self._assemble(inputs, results, records)

    def _episode(
        self,
        asked: CaseOptions,
        images: Tensor,
        spacing: tuple[float, ...] | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Episode:
        def predict(images: Tensor, network: nn.Module) -> Tensor:
            with autocast(images.device, self.precision):
                return first_tensor(self.inferer(images, network, *args, **kwargs)).float()

        method = resolve_method(asked.method, asked.recipe)
        return Episode(
            images=images,
            predict=predict,
            method=method,
            recipe=method.effective_recipe(asked.recipe),
            inferer=self.inferer,
            activation=self.activation,
            spacing=spacing,
            single_piece=self.single_piece,
            mirroring=self.mirroring,
            keeps_source=self.keep_source,
            memory=self.memory,
            profile=self.profile,
        )

    def _run(self, network: nn.Module, episode: Episode) -> EpisodeResult:
        """Run one case; if the GPU is too small even for the source network, on the CPU."""
        try:
            return run_episode(network, episode)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if episode.images.device.type == "cpu" or self.memory is not None:
                raise CaseError(
                    "image must fit into memory for one prediction, it does not. Use a smaller "
                    "sw_batch_size, precision='bf16', or a machine with more memory."
                ) from error
            logger.warning("out of memory on %s, the case runs on the CPU", episode.images.device)
        on_cpu = replace(episode, images=episode.images.cpu())
        return run_episode(copy_network(network).cpu(), on_cpu)

    def _assemble(
        self, inputs: Tensor, results: Sequence[EpisodeResult], records: Sequence[str]
    ) -> MetaTensor:
        pred = MetaTensor(_join([result.logits for result in results]))
        if isinstance(inputs, MetaTensor):
            pred.copy_meta_from(inputs, copy_attr=True)
        pred.meta["grata"] = records[0] if len(records) == 1 else list(records)
        if self.keep_source:
            pred.meta["grata_source"] = _join([result.source.logits for result in results])
        if self.keep_maps:
            maps = [make_maps(result, single_piece=self.single_piece) for result in results]
            pred.meta["grata_maps"] = torch.cat(maps)
        return pred


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Make a batch; of one, without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _spacings(inputs: Tensor) -> list[tuple[float, ...] | None]:
    """Voxel size in mm per axis of every case, as far as the inputs know it."""
    if not isinstance(inputs, MetaTensor) or "affine" not in inputs.meta:
        return [None] * inputs.shape[0]
    affines = inputs.affine if inputs.affine.ndim == 3 else inputs.affine[None]
    dims = inputs.ndim - 2
    spacings = [tuple(float(v) for v in a[:dims, :dims].norm(dim=0)) for a in affines]
    return spacings * inputs.shape[0] if len(spacings) == 1 else spacings  # type: ignore[return-value]
