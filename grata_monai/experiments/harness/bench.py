"""A bundle taken apart, so that every method meets the same cases in the same way."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import Tensor, nn

from grata_monai.adapt.method import Episode
from grata_monai.adapt.mirroring import ANY_MIRRORING, Mirroring
from grata_monai.adapt.network import choose_activation, first_tensor
from grata_monai.adapt.profile import SourceProfile
from grata_monai.adapt.recipe import Recipe
from grata_monai.adapt.source import predict_probed
from grata_monai.bundle.verify import describe_verified
from grata_monai.core.errors import DatasetError, GrataError, find_root
from grata_monai.core.precision import autocast
from grata_monai.core.types import Logits
from grata_monai.experiments.evaluate import MaskScore, score_mask
from grata_monai.experiments.harness.cost import measured
from grata_monai.methods.source import Source
from grata_monai.read.image import ReadLabeld

__all__ = ["Bench", "Prepared", "make_bare"]


@dataclass(frozen=True)
class Prepared:
    """A case as the network sees it, and what scoring needs.

    Attributes:
        episode: The case, with the source network's prediction; no method yet.
        data: The data dictionary after preprocessing, batched.
        seconds: Of the source network's pass, which every method builds on.
        peak_bytes: Most memory during that pass, above what was in use before.
    """

    episode: Episode
    data: Mapping[str, Any]
    seconds: float
    peak_bytes: float


@dataclass(frozen=True)
class Bench:
    """What a bundle's configuration built.

    Attributes:
        network: With its weights, in evaluation mode.
        inferer: The inferer inside `GraTaInferer`.
        preprocessing: File to image on the network's grid; reads the label too.
        postprocessing: Logits to a label map on the input's grid.
        activation: ``sigmoid``, ``softmax`` or ``auto``.
        single_piece: Whether the target is one connected piece.
        mirroring: Which mirrored views the network takes, and which labels have sides.
        inferer_of: Makes the inferer of a case from its images, where it depends on them.
        fit: Turns a recipe's views to the network's axes, where they are not those of the images.
        precision: Of predictions.
        device: Where everything runs.
        bare: The recipe of methods that run as published, without multi-scale prediction and
            guard; says how many patches they get, and which.
        verified: What `verify_bundle` said of the bundle.
        fingerprint: Digest of what decides its predictions: configuration with all settings,
            weights, and this package's version; of the shift too, if there is one.
        profile: Of the source cases, if the bundle has one.
    """

    network: nn.Module
    inferer: Inferer
    preprocessing: Compose
    postprocessing: Compose
    activation: str
    single_piece: bool
    precision: str
    device: torch.device
    bare: Recipe
    verified: Mapping[str, Any]
    fingerprint: str
    profile: SourceProfile | None = None
    mirroring: Mirroring = ANY_MIRRORING
    inferer_of: Callable[[Tensor], Inferer] | None = None
    fit: Callable[[Recipe], Recipe] | None = None

    @property
    def bundle(self) -> str:
        """The state of the bundle in a few words, for reports."""
        return describe_verified(self.verified)

    def predict(self, images: Tensor, network: nn.Module) -> Logits:
        """Predict images (1, c, *s) with the wrapped inferer, without gradients."""
        with torch.no_grad(), autocast(images.device, self.precision):
            logits = first_tensor(self.inferer(images, network))
        return logits.float()

    def prepare(
        self,
        item: Mapping[str, str],
        *,
        seed: int = 0,
        profile: SourceProfile | None = None,
        is_probed: bool = False,
    ) -> Prepared:
        """Read one case of `list_cases`, and make the source network's pass.

        Args:
            item: With ``image`` and, unless it is observed alone, ``label``.
            seed: Of the run; every case draws from a seed of its own made from it and its name.
            profile: In place of the bundle's.
            is_probed: Read the layers' statistics also without a profile.

        Raises:
            DatasetError: If the case does not go through preprocessing and network.
        """
        profile = profile or self.profile
        preprocessing = self.preprocessing
        if "label" not in item:
            steps = preprocessing.transforms
            preprocessing = Compose([step for step in steps if not isinstance(step, ReadLabeld)])
        is_plain = profile is None and not is_probed
        with _named(item["case"]):
            data = list_data_collate([preprocessing(dict(item))])
            images = data["image"].as_tensor().to(self.device)
            inferer = self.inferer if self.inferer_of is None else self.inferer_of(images)
            predict = replace(self, inferer=inferer).predict
            with measured(self.device) as cost:
                if is_plain:
                    source, statistics = predict(images, self.network), None
                else:
                    source, statistics = predict_probed(self.network, images, predict)
        dims = images.ndim - 2
        digest = hashlib.sha256(f"{seed} {item['case']}".encode(errors="surrogateescape")).digest()
        bare = self.bare.changed(seed=int.from_bytes(digest[:4], "big"))
        episode = Episode(
            images=images,
            source=source,
            predict=predict,
            method=Source(),
            recipe=bare,
            inferer=inferer,
            activation=choose_activation(self.activation, source.shape[1]),
            spacing=tuple(data["image"].affine[0, :dims, :dims].norm(dim=0).tolist()),
            single_piece=self.single_piece,
            mirroring=self.mirroring,
            is_guarded=False,
            statistics=statistics,
            profile=profile,
        )
        return Prepared(episode, data, cost.seconds, cost.peak_bytes)

    def score(self, logits: Logits, prepared: Prepared) -> MaskScore:
        """Bring logits to a mask on the label's grid, and score it."""
        mask, label = self.finish(logits, prepared)
        spacing = label.affine[:3, :3].norm(dim=0).tolist()[: label.ndim - 1]
        return score_mask(mask, label.as_tensor(), spacing)

    def finish(self, logits: Logits, prepared: Prepared) -> tuple[Tensor, MetaTensor]:
        """Bring logits to a mask on the label's grid; return it and the label, each (1, *s).

        Raises:
            DatasetError: If the label does not lie on its image's grid.
        """
        image = prepared.data["image"]
        pred = MetaTensor(logits)
        pred.copy_meta_from(image, copy_attr=True)
        # the bundle treats the source's prediction like the final one; here there is one alone
        batch = {**prepared.data, "pred": pred, "source": pred.clone()}
        (item,) = decollate_batch(batch)
        done = self.postprocessing(item)
        mask = _to_labels(done["pred"].as_tensor(), prepared.episode.activation)
        label = done["label"]
        if mask.shape != label.shape:
            raise DatasetError(
                f"label must lie on its image's grid, with the channels of the mask: the label of "
                f"{prepared.data['case'][0]!r} has {tuple(label.shape)}, its mask "
                f"{tuple(mask.shape)}. Overlapping regions cannot be scored with one label map."
            )
        return mask, label


@contextmanager
def _named(case: str) -> Iterator[None]:
    """Say which case it was that a foreign transform or network could not take."""
    try:
        yield
    except GrataError:
        raise
    except Exception as error:
        root = find_root(error)
        raise DatasetError(
            f"every case must go through the bundle's preprocessing and network, {case!r} does "
            f"not: {type(root).__name__}: {' '.join(str(root).split())[:200]}. Give one file per "
            "case, as the bundle's own inference reads it, or leave the case out."
        ) from error


def make_bare(recipe: Recipe) -> Recipe:
    """Make the recipe of methods that run as published, with the patches of another."""
    settings = recipe.to_dict()
    patches = {key: settings[key] for key in ("windows", "window_rule")}
    return Recipe("bare").changed(on_failure="raise", **patches)


def _to_labels(mask: Tensor, activation: str) -> Tensor:
    """The label map, also where a bundle saves a channel per class."""
    if mask.shape[0] == 1:
        return mask
    return mask.argmax(0, keepdim=True) if activation == "softmax" else mask
