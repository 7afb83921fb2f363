import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import grata_monai

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(grata_monai.__path__, prefix="grata_monai.")
    if not module.name.endswith("__main__")
)


NEED_SDK = {"grata_monai.hosts.deploy.application", "grata_monai.hosts.deploy.operators"}
NEED_NNUNET = {
    "grata_monai.experiments.harness.nnunet",
    "grata_monai.hosts.nnunet.run",
    "grata_monai.nnunet.build",
    "grata_monai.nnunet.predictor",
}


def load(module_name: str) -> ModuleType:
    if module_name in NEED_SDK:
        pytest.importorskip("monai.deploy.core", reason="no MONAI Deploy App SDK (extra deploy)")
    if module_name in NEED_NNUNET:
        pytest.importorskip("nnunetv2", reason="no nnU-Net (extra nnunet)")
    return importlib.import_module(module_name)


def is_documented(member: object, name: str) -> bool:
    """Whether a class or function of ours has a docstring of its own; other values need none."""
    is_ours = getattr(member, "__module__", "").startswith("grata_monai")
    if not is_ours or not (inspect.isclass(member) or inspect.isroutine(member)):
        return True
    # dataclasses invent a docstring, "Name(field: type, ...)", where none was written
    return bool(member.__doc__) and not member.__doc__.startswith(f"{name}(")


@pytest.mark.parametrize("module_name", ["grata_monai", *MODULES])
def test_every_exported_name_exists_once_and_is_documented(module_name):
    module = load(module_name)
    names = module.__all__
    assert len(names) == len(set(names))
    missing = [name for name in names if not hasattr(module, name)]
    assert missing == []
    undocumented = [name for name in names if not is_documented(getattr(module, name), name)]
    assert undocumented == []


@pytest.mark.parametrize("module_name", ["grata_monai", *MODULES])
def test_every_module_says_what_it_is_for(module_name):
    assert load(module_name).__doc__


def test_star_import_gives_exactly_the_public_names():
    namespace: dict[str, object] = {}
    exec("from grata_monai import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(grata_monai.__all__)
