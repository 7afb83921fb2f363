"""The published schema is that of the types, and describes what is written."""

import json
from pathlib import Path

import jsonschema
import pytest
from records import ADAPTED

from grata_monai.record.schema import record_schema, schema_text

DOCS = Path(__file__).parents[2] / "docs" / "reference"
REFRESH = "python -m grata_monai.record.schema > docs/reference/record.schema.json"


def validate(content: dict) -> None:
    jsonschema.validate(content, record_schema(), cls=jsonschema.Draft202012Validator)


@pytest.fixture
def content() -> dict:
    """A record as it is written, with all settings of a recipe."""
    recipe = dict.fromkeys(record_schema()["properties"]["recipe"]["required"])
    return {**json.loads(ADAPTED.to_json()), "recipe": recipe}


def test_the_published_schema_is_that_of_the_types():
    assert (DOCS / "record.schema.json").read_text() == schema_text(), f"run {REFRESH}"
    jsonschema.Draft202012Validator.check_schema(record_schema())


def test_every_key_is_described():
    for part in (record_schema(), *record_schema()["$defs"].values()):
        for name, key in part.get("properties", {}).items():
            assert name == "schema_version" or key["description"]


def test_every_key_stands_in_the_reference():
    page = (DOCS / "record.md").read_text()
    for part in (record_schema(), *record_schema()["$defs"].values()):
        for name in part.get("properties", {}):
            assert f"`{name}`" in page, name


@pytest.mark.parametrize(
    ("place", "key"),
    [(None, "weights"), (None, "asked"), ("verdict", "scores"), ("recipe", "mirror_margin")],
)
def test_a_record_without_a_key_of_this_version_is_refused(content, place, key):
    validate(content)
    del (content[place] if place else content)[key]
    with pytest.raises(jsonschema.ValidationError, match=f"'{key}' is a required property"):
        validate(content)


def test_an_unknown_key_is_refused(content):
    content["verdict"]["colour"] = "green"
    with pytest.raises(jsonschema.ValidationError, match="'colour' was unexpected"):
        validate(content)


def test_what_writers_add_is_described(content):
    content["output"] = {"file": "a_seg.nii.gz", "sha256": "0" * 64}
    content["output"] |= {"more": [], "made_from": ""}
    validate(content)
    content["dicom"] = {"study": "a", "series": "b", "frames": 1, "notes": []}
    content["dicom"] |= {"mask_sha256": "0" * 64, "objects": [], "made_from": ""}
    with pytest.raises(jsonschema.ValidationError, match="should be non-empty"):
        validate(content)
