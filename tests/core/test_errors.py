import pickle
import re

import pytest

from grata_monai.core import errors

NAMES = [name for name in errors.__all__ if name.endswith("Error")]


def drawn_tree() -> dict[str, str]:
    """Child -> parent, as the docstring of grata_monai.core.errors draws it."""
    parents: dict[str, str] = {}
    ancestors: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    (?P<branch>[│├└─ ]*)(?P<name>\w+Error)\b", line)
        if match:
            depth = len(match["branch"]) // 4
            ancestors[depth:] = [match["name"]]
            if depth:
                parents[match["name"]] = ancestors[depth - 1]
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    real = {
        name: getattr(errors, name).__bases__[0].__name__ for name in NAMES if name != "GrataError"
    }
    assert drawn_tree() == real


def test_the_root_is_no_value_error():
    assert errors.GrataError.__bases__ == (Exception,)


def test_a_recipe_error_is_also_a_value_error():
    with pytest.raises(ValueError, match="steps must be at least 1"):
        raise errors.RecipeError("steps must be at least 1, got 0. Give 1 or more.")


@pytest.mark.parametrize("name", NAMES)
def test_an_error_survives_the_way_back_from_a_worker_process(name):
    error = getattr(errors, name)("argument, rule, value. Remedy.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert copy.args == error.args


def test_the_refusal_and_the_root_are_found_in_a_chain_of_causes():
    try:
        try:
            try:
                raise KeyError("spacing")
            except KeyError as error:
                raise errors.GeometryError("spacing must be positive") from error
        except errors.GeometryError as error:
            raise RuntimeError("applying transform") from error
    except RuntimeError as error:
        chain = error
    assert str(errors.find_cause(chain)) == "spacing must be positive"
    assert isinstance(errors.find_root(chain), KeyError)
    assert errors.find_cause(ValueError("other")) is None
