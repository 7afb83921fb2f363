"""What a host asks for one case: it travels with the image, as the record does with the mask.

One inferer may serve requests of many users at once, so what one of them asked for cannot be kept
in it. A preprocessing transform writes the options into the image's meta data as JSON text;
`GraTaInferer` reads them there. What an image says overrides what the inferer was built with.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monai.data import MetaTensor
from torch import Tensor, nn

from grata_monai.adapt.method import Method
from grata_monai.adapt.network import copy_network, hash_state
from grata_monai.adapt.recipe import Recipe, resolve_recipe
from grata_monai.core.errors import WeightsError
from grata_monai.core.precision import to_channels_last

__all__ = ["OPTIONS_KEY", "CaseOptions", "read_options"]

OPTIONS_KEY = "grata_options"


@dataclass(frozen=True)
class CaseOptions:
    """How one case is run.

    Attributes:
        recipe: What to do.
        method: What adapts, or its name.
        weights_sha256: Fingerprint that the network's weights must have, as `hash_state` makes it
            of them ordered by name, for hosts that load weights unchecked; empty for any.
    """

    recipe: Recipe
    method: str | Method = "grata"
    weights_sha256: str = ""

    def to_json(self) -> str:
        """Return the options as JSON text, for an image's meta data; the method by its name."""
        method = self.method if isinstance(self.method, str) else self.method.name
        content = {
            "recipe": self.recipe.to_dict(),
            "method": method,
            "weights_sha256": self.weights_sha256,
        }
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "CaseOptions":
        """Read what `to_json` wrote.

        Raises:
            RecipeError: If a setting is wrong.
        """
        content: Mapping[str, Any] = json.loads(text)
        return cls(**{**content, "recipe": resolve_recipe(content["recipe"])})

    def verify_weights(self, network: nn.Module) -> nn.Module:
        """Treat a network that its host loaded as `load_network` would have: check, and lay out.

        Args:
            network: The host's; left as it is.

        Returns:
            A copy, if the options name weights; else the network itself.

        Raises:
            WeightsError: If its weights are not those that the options name.
        """
        if not self.weights_sha256:
            return network
        if hash_state(dict(sorted(network.state_dict().items()))) != self.weights_sha256:
            raise WeightsError(
                "the network must hold the weights of the bundle, all of them, it does not. "
                "Use the model file that belongs to the bundle, and start the host again."
            )
        return to_channels_last(copy_network(network))


def read_options(inputs: Tensor, default: CaseOptions) -> list[CaseOptions]:
    """Read the options of every case of a batch.

    Args:
        inputs: (b, c, *s).
        default: Of cases that bring none.

    Returns:
        One per case.

    Raises:
        RecipeError: If a setting is wrong.
    """
    found = inputs.meta.get(OPTIONS_KEY) if isinstance(inputs, MetaTensor) else None
    if found is None:
        return [default] * inputs.shape[0]
    if isinstance(found, str):
        return [CaseOptions.from_json(found)] * inputs.shape[0]
    return [CaseOptions.from_json(text) for text in found]
