"""Look at every organ of a case in its own part of the image, and put the parts together.

One region cannot hold several organs, and a prediction of many classes is too large to be kept a
dozen times. So each organ is a case within the case: the part of the image about it runs through
the same episode, with the same guard. Where the whole prediction is large, it is made anew at the
end instead of being kept meanwhile: never are there two of them.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from grata_monai.adapt.footprint import Footprint, free_bytes, plan_footprint
from grata_monai.adapt.guard import NOTHING_FOUND, Decision
from grata_monai.adapt.localise import LocalisedOrgan
from grata_monai.adapt.method import Episode
from grata_monai.adapt.multiscale import MARGIN, read_zoom
from grata_monai.adapt.organs import OrganPart, find_organs
from grata_monai.adapt.patches import plan_patches
from grata_monai.adapt.result import EpisodeResult, OrganResult, SourcePrediction, mark
from grata_monai.adapt.scores import Quality, Selected

__all__ = ["Parts", "look_at_parts", "plan_parts"]

logger = logging.getLogger(__name__)

_ORDER = (Quality.RED, Quality.AMBER, Quality.GREEN, Quality.NONE)
_GIB = 2.0**30
_MOST_UNSEEN = 0.1  # of what is marked; more of it is not judged by a look at the rest

Run = Callable[[nn.Module, Episode], EpisodeResult]


@dataclass(frozen=True)
class Parts:
    """How a case is taken apart.

    Attributes:
        organs: To look at, the largest first.
        left_out: Number of further organs.
        footprint: What it needs.
        masks: What the source marks, as of `mark`.
        refusal: Why no organ is looked at; empty if all fits.
        unseen: Share of what the source marks that lies beside all of them, in [0, 1].
    """

    organs: tuple[OrganPart, ...]
    left_out: int
    footprint: Footprint
    masks: Tensor
    refusal: str = ""
    unseen: float = 0.0


@dataclass(frozen=True)
class _Look:
    """An organ's episode, without what is large, and what to paste."""

    organ: OrganPart
    result: EpisodeResult
    values: Tensor | None
    seen: Tensor | None


def plan_parts(source: SourcePrediction, episode: Episode) -> Parts | None:
    """Decide whether a case is taken apart: for several organs, or for the sake of memory.

    Args:
        source: The source network's prediction.
        episode: The case.

    Returns:
        None if the case goes on in one piece.
    """
    multiscale = episode.recipe.multiscale
    is_part = episode.location is not None
    if is_part or episode.single_piece or not multiscale.views or episode.memory is not None:
        return None
    shape = tuple(episode.images.shape[2:])
    masks = mark(source.logits, source.activation)
    window = plan_patches(episode.inferer, shape)
    organs, left_out = find_organs(masks, source.activation, window, most=multiscale.organs)
    organs = tuple(replace(o, box=_surround(o, episode)) for o in organs)
    largest = max((math.prod(p.stop - p.start for p in o.box) for o in organs), default=0)
    footprint, unseen = plan_footprint(source.logits, largest), _find_unseen(masks, organs)
    is_one = len(organs) + left_out <= 1 and unseen <= _MOST_UNSEEN
    if footprint.way == "whole" and is_one:
        return None
    free = free_bytes(source.logits.device)
    refusal = ""
    if free is not None and footprint.needed > free + source.logits.nbytes:
        refusal = (
            f"looking closer needs about {footprint.needed / _GIB:.1f} GiB of memory, "
            f"{free / _GIB:.1f} are free"
        )
    logger.info(
        "%s: %d organ(s), about %.1f GiB", footprint.way, len(organs), footprint.needed / _GIB
    )
    return Parts(() if refusal else organs, left_out, footprint, masks, refusal, unseen)


def _find_unseen(masks: Tensor, organs: Sequence[OrganPart]) -> float:
    """The share of what is marked that lies outside of what is looked at."""
    rest = masks.ne(0).any(1)
    marked = int(rest.sum())
    for organ in organs:
        rest[(slice(None), *organ.box)] = False
    return int(rest.sum()) / max(marked, 1)


def _surround(organ: OrganPart, episode: Episode) -> tuple[slice, ...]:
    """The part of the image that the regions about an organ see."""
    shape = tuple(episode.images.shape[2:])
    window = plan_patches(episode.inferer, shape)
    zooms = [read_zoom(name, len(shape)) for name in episode.recipe.multiscale.views]
    box = []
    for axis, extent in enumerate(shape):
        if axis == window.slice_axis:
            box.append(slice(0, extent))
            continue
        smallest = min(zoom[axis] for zoom in zooms)
        width = max(
            window.roi_size[axis] / min(smallest, 1.0), MARGIN * organ.location.extent[axis]
        )
        width = min(math.ceil(width), extent)
        first = round(organ.location.centre[axis] - (width - 1) / 2)
        first = min(max(first, 0), extent - width)
        box.append(slice(first, first + width))
    return tuple(box)


def look_at_parts(
    network: nn.Module, source: SourcePrediction, episode: Episode, parts: Parts, run: Run
) -> EpisodeResult:
    """Run an episode for every organ, and put what the guard believes into the whole prediction.

    Args:
        network: The caller's; not touched.
        source: Of the whole case; without its logits, if `parts` say that they are made anew.
        episode: The whole case.
        parts: Of `plan_parts`.
        run: `run_episode`.

    Returns:
        The prediction, with a verdict per organ; the worst is the case's.
    """
    looks = [_look(network, episode, organ, parts, run) for organ in parts.organs]
    decision = _combine(looks, parts)
    clock = time.perf_counter()
    if source.logits.numel() == 0:
        logits = episode.predict(episode.images, source.network)
    else:
        logits = source.logits
    source = replace(source, logits=logits, masks=parts.masks)
    pasted = [look for look in looks if look.values is not None]
    if pasted:
        if parts.footprint.way == "whole" or episode.keeps_source:
            logits = logits.clone()
        else:
            source = replace(source, logits=logits.new_empty((0, 0)))
        _normalise(logits, source.activation)
        for look in pasted:
            _paste(logits, look)
    seconds = {
        key: math.fsum(look.result.seconds.get(key, 0.0) for look in looks)
        for key in ("adaptation", "prediction")
    }
    seconds["prediction"] += time.perf_counter() - clock
    kept = [look.result for look in pasted if look.result.is_adapted]
    main = next(iter(looks), None)
    base = EpisodeResult(source, logits, episode.recipe, episode.method.name)
    if main is not None:
        first = main.result
        base = replace(
            base,
            groups=first.groups,
            parameters=first.parameters,
            parameter_count=first.parameter_count,
            image_statistics=first.image_statistics,
            patches=first.patches,
            organ=first.organ,
            after=first.after,
            mirrored_whole=first.mirrored_whole,
            dropped_views=first.dropped_views,
        )
    return replace(
        base,
        reason="" if pasted else decision.reason.removeprefix("kept source: "),
        steps=tuple(step for look in looks for step in look.result.steps),
        decision=decision,
        is_adapted=bool(kept),
        weights_after=kept[0].weights_after if kept else source.weights,
        seconds=seconds,
        organs=tuple(_describe(look) for look in looks),
        organs_left_out=parts.left_out,
        footprint=parts.footprint,
        marked=_gather_marks(looks, episode),
    )


def _look(network: nn.Module, episode: Episode, organ: OrganPart, parts: Parts, run: Run) -> _Look:
    offset = tuple(part.start for part in organ.box)
    centre = tuple(c - o for c, o in zip(organ.location.centre, offset, strict=True))
    part = replace(
        episode,
        images=episode.images[(slice(None), slice(None), *organ.box)].contiguous(),
        source=None,
        statistics=None,
        profile=None,
        location=replace(organ.location, centre=centre),
    )
    result = run(network, part)
    values = seen = None
    if result.decision.selected in (Selected.VIEWS, Selected.ADAPTED) and not result.reason:
        evidence = result.evidence
        is_moved = result.decision.selected is Selected.ADAPTED
        seen = (evidence.at_hand if is_moved else evidence.before).seen > 0
        values = result.logits if parts.footprint.way == "whole" else result.logits.half()
    elif result.decision.selected is not Selected.SOURCE:  # a mirrored average of a part has seams
        reason = f"kept source: {result.decision.reason}"
        decision = replace(result.decision, selected=Selected.SOURCE, reason=reason)
        result = replace(result, decision=decision)
    return _Look(organ, _strip(result, offset), values, seen)


def _strip(result: EpisodeResult, offset: Sequence[int]) -> EpisodeResult:
    """Take out what is large, and count voxels in the whole image."""
    empty = result.logits.new_empty((0, 0))

    def lighten(organ: LocalisedOrgan | None) -> LocalisedOrgan | None:
        if organ is None or organ.prediction is None:
            return None
        rois = tuple(
            replace(roi, centre=tuple(c + o for c, o in zip(roi.centre, offset, strict=True)))
            for roi in organ.rois
        )
        prediction = replace(organ.prediction, maps=empty, seen=empty)
        return replace(organ, maps=empty, rois=rois, prediction=prediction)

    return replace(
        result,
        source=replace(result.source, logits=empty),
        logits=empty,
        organ=lighten(result.organ),
        after=lighten(result.after),
        mirrored=(),
        patches=None,
    )


def _normalise(logits: Tensor, activation: str) -> None:
    """Make logits (1, k, *s) logarithms of probabilities, in place: what is pasted is such."""
    if activation == "softmax":
        for slab in logits.split(8, 2):
            slab.sub_(slab.logsumexp(1, keepdim=True))


def _paste(logits: Tensor, look: _Look) -> None:
    assert look.values is not None
    assert look.seen is not None
    for slab, values, seen in zip(
        logits[(slice(None), slice(None), *look.organ.box)].split(8, 2),
        look.values.split(8, 2),
        look.seen.split(8, 2),
        strict=True,
    ):
        slab.copy_(torch.where(seen, values.to(slab), slab))


def _combine(looks: Sequence[_Look], parts: Parts) -> Decision:
    """The case's verdict: that of its worst organ."""
    if parts.refusal:
        return Decision(Quality.AMBER, Selected.SOURCE, f"kept source: {parts.refusal}")
    if not looks:
        return NOTHING_FOUND
    worst = min(looks, key=lambda look: _ORDER.index(look.result.decision.quality))
    decision = worst.result.decision
    found = {look.result.decision.selected for look in looks if look.values is not None}
    selected = next((s for s in (Selected.ADAPTED, Selected.VIEWS) if s in found), Selected.SOURCE)
    quality, reason = decision.quality, decision.reason or worst.result.reason
    if len(looks) > 1:
        channel = worst.organ.channel
        name = "the one about " + ", ".join(f"{c:.0f}" for c in worst.organ.location.centre)
        name = name if channel is None else f"that of channel {channel}"
        changed = sum(look.values is not None for look in looks)
        reason = f"{changed} of {len(looks)} organs changed; the worst is {name}: {reason}"
    if parts.left_out:
        reason += f"; {parts.left_out} further organ(s) were not looked at"
    elif parts.unseen > _MOST_UNSEEN:
        reason += f"; {100 * parts.unseen:.0f} % of what is marked was not looked at"
    if (parts.left_out or parts.unseen > _MOST_UNSEEN) and quality is Quality.GREEN:
        quality = Quality.AMBER
    if selected is Selected.SOURCE:
        reason = "kept source: " + reason.removeprefix("kept source: ")
    known = [c for look in looks if (c := look.result.decision.consistency) is not None]
    return replace(
        decision,
        quality=quality,
        selected=selected,
        reason=reason,
        consistency=min(known, default=None),
    )


def _describe(look: _Look) -> OrganResult:
    decision = look.result.decision
    return OrganResult(
        channel=look.organ.channel,
        centre=look.organ.location.centre,
        voxels=look.organ.voxels,
        decision=replace(decision, reason=decision.reason or look.result.reason),
    )


def _gather_marks(looks: Sequence[_Look], episode: Episode) -> Tensor:
    """What magnifications mark, of all organs, on the grid of the whole image."""
    marked = torch.zeros(
        (1, 1, *episode.images.shape[2:]), dtype=torch.uint8, device=episode.images.device
    )
    for look in looks:
        is_adapted = look.result.decision.selected is Selected.ADAPTED
        organ = look.result.after if is_adapted and look.result.after else look.result.organ
        if organ is not None and organ.prediction is not None:
            bits = organ.prediction.marked
            if bits is not None:
                marked[(slice(None), slice(None), *look.organ.box)] |= bits
    return marked
