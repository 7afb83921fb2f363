"""Generate the JSON schema of a record from its types: `python -m grata_monai.record.schema`.

It describes what this version writes; readers accept older records and ignore unknown keys.
"""

import inspect
import json
import re
import sys
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from grata_monai.adapt import scores
from grata_monai.adapt.recipe import SOURCE
from grata_monai.record import types
from grata_monai.record.layout import SCHEMA_VERSION

__all__ = ["record_schema", "schema_text"]

_ENTRY = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)


class _Written(GenerateJsonSchema):
    """What is written holds every key, so that none has a default."""

    def field_is_required(self, *_: Any, **__: Any) -> bool:
        return True

    def default_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])


def record_schema() -> dict[str, Any]:
    """Describe ``<case>_record.json`` and ``record.json`` as this version writes them."""
    kinds = {"record": types.Record, "output": types.Output, "dicom": types.DicomSeries}
    _, schema = TypeAdapter.json_schemas(
        [(name, "serialization", TypeAdapter(kind)) for name, kind in kinds.items()],
        schema_generator=_Written,
    )
    parts: dict[str, Any] = schema["$defs"]
    for name, part in parts.items():
        _describe(part, getattr(types, name, None) or getattr(scores, name))
    parts["OutcomeName"]["enum"].remove(types.OutcomeName.UNADAPTED)  # read, but not written
    record = parts.pop("Record")
    record["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    record["properties"]["recipe"]["required"] = list(SOURCE.to_dict())
    for name, kind in (("output", types.Output), ("dicom", types.DicomSeries)):
        words = {"description": "Added when written."}
        record["properties"][name] = {"$ref": f"#/$defs/{kind.__name__}", **words}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **record,
        "title": "grata_monai record of one case",
        "$defs": parts,
    }


def schema_text() -> str:
    """Write the schema as the text of `docs/reference/record.schema.json`."""
    return json.dumps(record_schema(), indent=2, ensure_ascii=False) + "\n"


def _describe(part: dict[str, Any], kind: type) -> None:
    """Take descriptions from a class's docstring; allow no other keys."""
    text = inspect.getdoc(kind) or ""
    part["description"] = text.partition("\n")[0]
    if "properties" not in part:
        return
    part["additionalProperties"] = False
    for name, words in _ENTRY.findall(text.partition("Attributes:\n")[2]):
        part["properties"][name].pop("title", None)
        part["properties"][name]["description"] = " ".join(words.split())


if __name__ == "__main__":
    sys.stdout.write(schema_text())
