"""What calibration chose and why: a recipe to run with, and a page to read."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grata_monai.adapt.profile import SourceProfile
from grata_monai.experiments.calibrate.choose import Choice, Scores
from grata_monai.experiments.calibrate.fit import Fit
from grata_monai.experiments.compare.statistics import HARM
from grata_monai.report.document import write_document
from grata_monai.write.commit import claim, staged

__all__ = ["write_choice", "write_overlay"]


def write_choice(
    choice: Choice,
    scores: Scores,
    settings: Mapping[str, Mapping[str, Any]],
    out: Path,
    *,
    facts: Mapping[str, str],
    refused: Mapping[str, str],
    fit: Fit | None = None,
) -> tuple[Path, str]:
    """Write the chosen recipe as an overlay of the bundle, and a report beside it, all as one.

    Args:
        choice: Of `choose`.
        scores: That it was chosen from.
        settings: Of every candidate, by name, as recipes are written.
        out: A ``.json`` file; the report takes its name with ``.md`` and ``.html``.
        facts: What a reader must know besides: command, device, seed.
        refused: Candidates without scores, and why.
        fit: Of the source profile; written beside the recipe, with ``_profile`` in its name.

    Returns:
        The report's path and text.
    """
    recipe = _to_recipe(choice, settings, fit)
    report = _describe(choice, scores, facts, refused) + describe_fit(fit)
    page = out.with_suffix(".md")
    with _as_one(out) as stage:
        _write_overlay({"recipe": recipe}, None if fit is None else fit.profile, out, stage)
        (stage / page.name).write_text(report, encoding="utf-8")
        write_document(stage / page.name)
    return page, report


def write_overlay(settings: Mapping[str, Any], profile: SourceProfile | None, out: Path) -> None:
    """Write settings of the bundle and, beside them and named by them, a profile, as one.

    Args:
        settings: Id of the configuration to value.
        profile: Written with ``_profile`` in its name, if there is one.
        out: A ``.json`` file.
    """
    with _as_one(out) as stage:
        _write_overlay(settings, profile, out, stage)


@contextmanager
def _as_one(out: Path) -> Iterator[Path]:
    """Lend a folder whose files appear beside `out` as one; the overlay names the others."""
    with claim(out.parent) as folder, staged(folder, last=[out.name]) as stage:
        yield stage


def _write_overlay(
    settings: Mapping[str, Any], profile: SourceProfile | None, out: Path, stage: Path
) -> None:
    overlay = dict(settings)
    if profile is not None:
        beside = out.with_name(f"{out.stem}_profile.json")
        overlay["profile"] = str(beside.absolute())
        (stage / beside.name).write_text(profile.to_json() + "\n", encoding="utf-8")
    (stage / out.name).write_text(json.dumps(overlay, indent=4) + "\n", encoding="utf-8")


def _to_recipe(
    choice: Choice, settings: Mapping[str, Mapping[str, Any]], fit: Fit | None
) -> str | dict[str, Any]:
    """The candidate whose profile was fitted; its limits count where the profile does not."""
    name = choice.name if fit is None else fit.name
    if name == "source":
        return "source"
    standing = next(s for s in choice.standings if s.name == name)
    limits = {"source_below": standing.source_below, "mirror_margin": standing.mirror_margin}
    if name == choice.name:
        limits |= {"red_below": choice.red_below, "amber_below": choice.amber_below}
    found = {key: round(value, 2) for key, value in limits.items() if math.isfinite(value)}
    return {**settings[name], **found}


def _describe(
    choice: Choice, scores: Scores, facts: Mapping[str, str], refused: Mapping[str, str]
) -> str:
    stages = {s.name: s for s in choice.standings}
    lines = ["# Calibration", "", *(f"- {key}: {value}" for key, value in facts.items())]
    lines += [
        f"- cases: {len(scores.cases)}, under {len(scores.shifts)} shifts",
        "",
        f"Chosen: **{choice.name}**. {_why(choice)}{_limits(choice)}",
        "",
        "On cases that had no part in the choice (each left out in turn): mean gain "
        f"{choice.left_out_gain:+.4f}, harm {100 * choice.left_out_harm:.1f} %. Without a case was "
        f"chosen: {', '.join(f'{name} ({case})' for case, name in choice.left_out.items())}.",
        "",
        f"Some shift harmed {choice.left_out_harmed} of these {len(choice.left_out)} cases. With "
        f"95 % confidence, one harms fewer than {100 * choice.harm_bound:.0f} % of all cases; more "
        "cases narrow this.",
        "",
        "| candidate | gain | gain without shift | harm | harm without shift | worst | limit | "
        "margin | source kept |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, s in stages.items():
        lines.append(
            f"| {name} | {s.gain:+.4f} | {s.gain_unshifted:+.4f} | {100 * s.harm:.1f} % | "
            f"{100 * s.harm_unshifted:.1f} % | {s.worst:+.3f} | {_limit(s.source_below)} | "
            f"{_limit(s.mirror_margin)} | {100 * s.kept:.0f} % |"
        )
    lines += [
        "",
        f"Gain: mean Dice minus the source network's. Harm: share that loses more than {HARM:g}. "
        "Limit: agreement below which the guard keeps the source, the middle of the best ones. "
        "Margin: it also keeps the source unless mirrored predictions agree so much better in the "
        "magnified views than in the whole image.",
        "",
        "## Mean Dice by shift, without the guard's limits",
        "",
        f"| shift | source | {' | '.join(stages)} |",
        f"| --- | --- | {' | '.join(['---'] * len(stages))} |",
    ]
    for index, shift in enumerate(scores.shifts):
        cells = [scores.source[:, index].mean()]
        cells += [scores.candidates[name][:, index].mean() for name in stages]
        lines.append(f"| {shift} | {' | '.join(f'{cell:.3f}' for cell in cells)} |")
    if refused:
        lines += ["", "## Refused", "", *(f"- {name}: {why}" for name, why in refused.items())]
    return "\n".join(lines) + "\n"


def describe_fit(fit: Fit | None) -> str:
    """Say what the source profile promises, and what it is worth on cases that were left out."""
    if fit is None:
        return ""
    profile, shares = (
        fit.profile,
        {name: f"{100 * share:.0f} %" for name, share in fit.kept.items()},
    )
    holds = "holds" if fit.holds else "does NOT hold: too few cases, or too many lost"
    mirrored = (
        "; where it does not, the average of mirrored predictions stands in if its mask has a Dice "
        f"of at least {profile.mirrored_from:.3f} with the source's"
        if profile.mirrored_from is not None
        else ""
    )
    signs = profile.models["kept"].weights
    lines = [
        "",
        "## Source profile",
        "",
        f"Made of {profile.cases} cases and fitted to **{fit.name}**, the recipe written. A "
        f"case nearer than {profile.home_below:.2f} whose predicted Dice is at least "
        f"{profile.home_quality:.2f} keeps the source prediction. Elsewhere it gives way where the "
        f"predicted gain is at least {profile.gain_above:+.3f}{mirrored}.",
        "",
        f"- harmed under some shift, each case left out in turn: {fit.harmed}; the bound of "
        f"{100 * fit.allowed:.0f} % {holds} ({100 * fit.risk:.0f} %), for cases exchangeable with "
        "these; a foreign hospital's are not",
        f"- a case like those at home has a Dice of at least {profile.home_lower:.2f}, as often as "
        f"{100 * profile.models['plain'].confidence:.0f} %",
        f"- mean gain {fit.gain:+.4f}; of a choice that knows the label {fit.oracle:+.4f}",
        f"- handed on: {', '.join(f'{name} {share}' for name, share in shares.items())}",
        "",
        "Unseen: as if calibration had known neither this shift nor the case. There the bound need "
        "not hold; that is as near as source cases come to another hospital.",
        "",
        "| shift | gain | of a choice that knows the label | gain, unseen | harmed, unseen |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {shift} | {gain:+.4f} | {most:+.4f} | {_tell_unseen(fit, shift)} |"
            for shift, (gain, most) in fit.by_shift.items()
        ),
        "",
        f"| prediction | best | intercept | {' | '.join(signs)} | slack |",
        f"| --- | --- | --- | {'--- | ' * (len(signs) + 1)}",
    ]
    for name, model in profile.models.items():
        weights = [model.weights.get(sign, 0.0) for sign in signs]
        cells = (model.best, model.intercept, *weights, model.slack)
        told = ("none" if cell is None else f"{cell:.3f}" for cell in cells)
        lines.append(f"| {name} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def _tell_unseen(fit: Fit, shift: str) -> str:
    if shift not in fit.by_unseen:
        return "– | –"
    gain, harmed = fit.by_unseen[shift]
    return f"{gain:+.4f} | {harmed}"


def _limit(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"


def _limits(choice: Choice) -> str:
    if not math.isfinite(choice.source_below):
        return ""
    red = (
        f"The light is red below {choice.red_below:.2f}, which best tells masks below a Dice of .7 "
        "from better ones"
        if math.isfinite(choice.red_below)
        else "No limit of the red light can be told: masks are all useful, or all useless"
    )
    margin = (
        f", and unless mirrored predictions agree better by {choice.mirror_margin:.2f} in the "
        "magnified views than in the whole image"
        if math.isfinite(choice.mirror_margin)
        else ""
    )
    return (
        f" Its guard keeps the source below an agreement of {choice.source_below:.2f}{margin}. "
        f"{red}; it "
        f"is amber below {choice.amber_below:.2f}, which nine of ten cases without a shift reach."
    )


def _why(choice: Choice) -> str:
    if choice.name == "source":
        return "No candidate gains without doing harm; the network is left as it is."
    return (
        "The largest mean gain among the candidates that harm no case without a shift and few with "
        "one."
    )
