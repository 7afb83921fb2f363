"""Every system by its name."""

import difflib
from collections.abc import Callable, Iterable

from grata_monai.methods.ablations import ABLATIONS
from grata_monai.methods.affine_consistency import AffineConsistency
from grata_monai.methods.cotta import CoTTA
from grata_monai.methods.detta import DeTTA
from grata_monai.methods.diga import DIGA
from grata_monai.methods.dltta import DLTTA
from grata_monai.methods.domain_adaptor import DomainAdaptor
from grata_monai.methods.dua import DUA
from grata_monai.methods.grata import (
    GraTaClinical,
    GraTaPaper,
    GraTaPaperEpisodic,
    GraTaViews,
)
from grata_monai.methods.intent import InTEnt
from grata_monai.methods.medbn import MedBN
from grata_monai.methods.memo import MEMO
from grata_monai.methods.method import Method
from grata_monai.methods.mirror import Mirror
from grata_monai.methods.n4 import N4
from grata_monai.methods.prediction_time_bn import PredictionTimeBN
from grata_monai.methods.sar import SAR
from grata_monai.methods.shape_moments import ShapeMoments
from grata_monai.methods.source import Source
from grata_monai.methods.student import TeST
from grata_monai.methods.tent import Tent
from grata_monai.methods.tipi import TIPI
from grata_monai.methods.ttt import TTT

__all__ = ["METHODS", "make_methods"]

METHODS: dict[str, Callable[[], Method]] = {
    made.name: made
    for made in (
        Source,
        Mirror,
        N4,
        PredictionTimeBN,
        DUA,
        DIGA,
        DomainAdaptor,
        MedBN,
        InTEnt,
        Tent,
        SAR,
        DLTTA,
        CoTTA,
        TTT,
        TIPI,
        TeST,
        ShapeMoments,
        DeTTA,
        MEMO,
        AffineConsistency,
        GraTaPaper,
        GraTaPaperEpisodic,
        GraTaViews,
        GraTaClinical,
    )
}
"""Name to what makes the system with its published settings."""


def make_methods(names: Iterable[str] = ()) -> dict[str, Method]:
    """Make systems with their published settings.

    Args:
        names: Which ones; all but ablations if empty; ``ablations`` stands for all of these. The
            source network is always among them, as the first.

    Returns:
        Name to method.

    Raises:
        ValueError: If there is no such system.
    """
    known = {**METHODS, **ABLATIONS}
    chosen = dict.fromkeys(["source", *(list(names) or METHODS)])
    if chosen.pop("ablations", True) is None:
        chosen |= dict.fromkeys(ABLATIONS)
    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Leave it out."
            raise ValueError(f"methods must be among {', '.join(known)}, got {name!r}. {hint}")
    return {name: known[name]() for name in chosen}
