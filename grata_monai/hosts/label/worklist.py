"""Remember what was found of each study, and hand out first the one whose views agree least.

3D Slicer shows a volume under the name that the next sample brings: so its light stands in the
window. A second model gives the original network's mask, as a segment of its own beside the first.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["ORIGINAL", "STRATEGY", "LeastAgreement", "extend_app", "note", "take_original"]

STRATEGY = "least agreement first"
ORIGINAL = "_original"
"""What the name of a model ends with that gives the original network's mask."""
KEY = "grata"  # of a study's facts in the datastore
SHOWN_AS = "PatientID"  # the name under which Slicer's module shows a volume, if a sample has it


class LeastAgreement:
    """A strategy of MONAI Label: studies without a label of the reader's, the worst first.

    Those that nobody has segmented yet come last, in the order of their names. Send every study
    through ``/batch/infer/`` once, and the order is known.
    """

    description = "The study whose views agree least; those not segmented yet come last"

    def info(self) -> dict[str, str]:
        """What the client shows."""
        return {"description": self.description}

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, str] | None:
        """Choose a study.

        Args:
            request: Of the client; may name the tag of finished labels.
            datastore: MONAI Label's.

        Returns:
            Its id; None if every study has a label.
        """
        waiting = datastore.get_unlabeled_images(request.get("label_tag") or "final", None)
        ranked = sorted((_rank(datastore.get_image_info(image)), image) for image in waiting)
        return {"id": ranked[0][1]} if ranked else None


def note(datastore: Any, image: str, answer: Mapping[str, Any]) -> None:
    """Keep light, verdict and agreement of a study beside it, and the name that shows its light.

    Args:
        datastore: MONAI Label's; what it does not hold, such as an upload, is not noted.
        image: The study's id.
        answer: The JSON part of an inference, with ``light``, ``verdict`` and ``record``.
    """
    if "record" not in answer or image not in datastore.list_images():
        return
    facts = {name: answer[name] for name in ("light", "verdict")}
    facts["agreement"] = answer["record"]["verdict"]["agreement"]
    shown = f"{str(answer['light']).upper()} {image}"
    datastore.update_image_info(image, {KEY: facts, SHOWN_AS: shown})


def extend_app(app: Any) -> None:
    """Add the strategy, first of all, and for every model one that gives the original's mask."""
    app._strategies = {STRATEGY: LeastAgreement(), **app._strategies}
    for name, task in list(app._infers.items()):
        if "adapt" in task.config():
            plain = copy.copy(task)
            plain.labels = {f"{label}, original network": n for label, n in task.labels.items()}
            plain.description = "The original network's mask, to compare: a segment of its own"
            app._infers[f"{name}{ORIGINAL}"] = plain


def take_original(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request, without adaptation if it is for the original network's mask."""
    is_original = str(request.get("model")).endswith(ORIGINAL)
    return {**request, **({"adapt": False} if is_original else {})}


def _rank(info: Mapping[str, Any]) -> float:
    facts = info.get(KEY)  # which a client may have overwritten
    agreement = facts.get("agreement", math.inf) if isinstance(facts, Mapping) else math.inf
    if agreement is None:
        return -1.0  # nothing was found: the worst
    is_one = isinstance(agreement, int | float) and 0 <= agreement <= 1
    return float(agreement) if is_one else math.inf
