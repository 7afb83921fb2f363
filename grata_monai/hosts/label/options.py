"""What a client of MONAI Label shows and asks for, as options that travel with the image.

MONAI Label hands the values of ``displayable_configs`` to preprocessing, beside the image. They
stop here: nothing in the configuration may refer to them. For MONAI Label also writes a client's
values into the configuration, where a text beginning with ``$`` runs as code once it is asked for.
"""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from grata_monai.adapt.network import hash_state
from grata_monai.adapt.recipe import RECIPES, SOURCE, Recipe, resolve_recipe
from grata_monai.core.errors import RecipeError, WeightsError
from grata_monai.methods.grata import GraTaMethod
from grata_monai.methods.registry import METHODS, resolve_method
from grata_monai.options import OPTIONS_KEY, CaseOptions

__all__ = ["TakeOptionsd", "list_methods", "list_recipes"]

NAMES = ("adapt", "recipe", "method", "guard", "time_limit_s")


def list_recipes(first: str | Mapping[str, Any]) -> list[str]:
    """List the recipes to choose from, by name; clients show the first one as chosen.

    Args:
        first: The configuration's own recipe: a name, or settings.

    Returns:
        Its name, then the named recipes that adapt.
    """
    own = resolve_recipe(first).name
    return [own, *(name for name in RECIPES if name not in (own, SOURCE.name))]


def list_methods(first: str) -> list[str]:
    """List the methods to choose from, by name; clients show the first one as chosen.

    Args:
        first: The configuration's own method.

    Returns:
        Its name, then the others.
    """
    return [first, *(name for name in METHODS if name not in (first, SOURCE.name))]


class TakeOptionsd(MapTransform):
    """Turn what a client asked for into options that the image carries to `GraTaInferer`.

    Data without any of the options, as in `python -m monai.bundle run`, get none: then the
    inferer's own settings hold. An image's options of another origin are taken away.

    Args:
        keys: Of images.
        recipe: The configuration's own recipe: a name, or settings.
        method: The configuration's own method.
        weights: Path of the state dict that the network must hold; hosts of this kind load it
            without checking it.
        allow_missing_keys: Whether to pass over missing keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        recipe: str | Mapping[str, Any],
        weights: str | Path,
        allow_missing_keys: bool = False,
        method: str = "grata",
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.recipe = resolve_recipe(recipe)
        self.weights = Path(weights)
        self.method = method

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with options in the images' meta data.

        Raises:
            RecipeError: If the client asked for something that does not exist.
            WeightsError: If the bundle's weights cannot be read.
        """
        taken = dict(data)
        asked = {name: data[name] for name in NAMES if name in data}
        options = self._read(asked).to_json() if asked else None
        for key in self.key_iterator(taken):
            image = taken[key]
            meta = dict(image.meta) if isinstance(image, MetaTensor) else {}
            meta.pop(OPTIONS_KEY, None)
            meta |= {} if options is None else {OPTIONS_KEY: options}
            trace = image.applied_operations if isinstance(image, MetaTensor) else None
            taken[key] = MetaTensor(torch.as_tensor(image), meta=meta, applied_operations=trace)
        return taken

    def _read(self, asked: Mapping[str, Any]) -> CaseOptions:
        recipe, method = self._choose(asked.get("recipe")), _first(asked.get("method"))
        resolve_method(method or self.method, recipe)
        recipe = recipe.changed(time_limit_s=_read_limit(asked.get("time_limit_s")))
        if not _read_switch("guard", asked):
            recipe = recipe.changed(name=f"{recipe.name}, guard off", guard=False)
        if not _read_switch("adapt", asked):
            recipe, method = SOURCE, GraTaMethod.name
        return CaseOptions(recipe, method or self.method, _hash_file(self.weights))

    def _choose(self, asked: Any) -> Recipe:
        chosen = _first(asked)
        if chosen is None or chosen == self.recipe.name:
            return self.recipe
        if not isinstance(chosen, str | Mapping):
            raise RecipeError(f"recipe must be a name, or settings, got {chosen!r}.")
        return resolve_recipe(chosen)


def _first(asked: Any) -> Any:
    """A client that left a choice untouched sends all names."""
    return asked[0] if isinstance(asked, list) and asked else asked


def _read_switch(name: str, asked: Mapping[str, Any]) -> bool:
    value = asked.get(name, True)
    if not isinstance(value, bool):
        raise RecipeError(f"{name} must be true or false, got {value!r}. Send a JSON boolean.")
    return value


def _read_limit(value: Any) -> int | float | None:
    if not value:  # 3D Slicer sends 0 for a field that its user left empty
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecipeError(
            f"time_limit_s must be a number of seconds, or 0 for none, got {value!r}."
        )
    return value


def _hash_file(path: Path) -> str:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return hash_state(dict(sorted(state.items())))
    except Exception as error:
        raise WeightsError(
            f"weights must be a state dict that loads with weights_only=True, got {path.name}: "
            f"{type(error).__name__}. Install the bundle again."
        ) from error
