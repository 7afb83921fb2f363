"""The allow-list names things that exist, and each short name means what the long one says."""

import importlib
import inspect
import re

import pytest
from monai.bundle.config_item import ComponentLocator

from grata_monai.bundle.authority import RESERVED, WRITTEN
from grata_monai.bundle.lint.targets import (
    EXPRESSIONS,
    READERS,
    TARGETS,
    WRITERS,
    allowed_names,
)

LISTED = [(module, name) for module, names in TARGETS.items() for name in names.split()]
SPOKEN = [(module, name) for module, names in EXPRESSIONS.items() for name in names.split()]


@pytest.mark.parametrize(("module", "name"), [*LISTED, *SPOKEN], ids=".".join)
def test_a_listed_name_exists(module, name):
    assert hasattr(importlib.import_module(module), name)


def test_a_short_name_is_what_monai_finds_by_it():
    locator = ComponentLocator()
    for module, name in LISTED:
        if module.startswith("monai."):
            found = locator.get_component_module_name(name)
            places = found if isinstance(found, list) else [found]
            meant = getattr(importlib.import_module(module), name)
            assert getattr(importlib.import_module(places[0]), name) is meant


@pytest.mark.parametrize("name", sorted(READERS | WRITERS))
def test_readers_and_writers_are_those_of_monai(name):
    assert importlib.import_module("monai.data").__dict__[name].__module__.startswith("monai.data")


@pytest.mark.parametrize(
    "name",
    ["os.system", "eval", "torch.load", "torch.hub.load", "monai.bundle.run", "monai.apps.download",
     "download_url", "Lambdad", "monai.transforms.Lambda", "TorchVisiond", "PersistentDataset",
     "DecathlonDataset", "builtins.exec", "numpy.load", "PatchInferer", "UNetX"],
)  # fmt: skip
def test_what_runs_other_code_or_fetches_is_not_listed(name):
    assert name not in allowed_names()


def test_the_list_can_be_extended():
    extended = allowed_names(["my_package.MyNet", ".my_attribute"])
    assert extended - allowed_names() == {
        "my_package.MyNet",
        "$my_package.MyNet",
        ".my_attribute",
    }


READ = {"dataset_dir"}
"""Folders that listed names only read."""


def test_every_folder_that_a_listed_name_takes_is_held_to_where_a_bundle_may_write():
    taken = {
        parameter
        for module, name in LISTED
        for parameter in inspect.signature(
            getattr(importlib.import_module(module), name)
        ).parameters
        if re.search(r"(^|_)(dir|folder|root)($|_)", parameter)
    }
    assert taken >= {"output_dir", "phantom_dir", "data_root_dir"}
    switches = {"separate_folder", "folder_layout"}
    assert taken - {*WRITTEN, *RESERVED} == READ | switches
