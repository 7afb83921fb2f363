"""CycloneDX bill of materials: every installed package, and the bundle as a model.

The same environment and bundle give the same bytes: nothing in it names the machine, the serial
number follows from the content, and a time is in it only where SOURCE_DATE_EPOCH gives one.
"""

import json
import os
import platform
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.contact import OrganizationalContact
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from grata_monai.core.errors import OutputError
from grata_monai.core.files import atomic_path
from grata_monai.record.environment import versions
from grata_monai.write.dicom.equipment import MANUFACTURER
from tools.compliance.model_component import MODEL_REF, describe_model, make_model_card
from tools.compliance.packages import (
    OWN,
    Package,
    find_parts,
    installed,
    needed_by,
    read_direct,
)

__all__ = ["make_sbom", "write_sbom"]

SCHEMA = SchemaVersion.V1_6
SCOPES = {
    "segmenting": ComponentScope.REQUIRED,
    "DICOM": ComponentScope.OPTIONAL,
    "development": ComponentScope.EXCLUDED,
}
TOOL = "cyclonedx-python-lib"
WEB = ("http://", "https://")


def write_sbom(root: Path, path: Path) -> int:
    """Write the bill of materials as a JSON file.

    Args:
        root: Of the repository.
        path: The file to make or replace; its folder is made if it is missing.

    Returns:
        Number of components, the model's files not counted.

    Raises:
        DatasetError: If `root` is not the repository.
        BundleError: If the bundle is not as its manifest says.
        OutputError: If the file cannot be written.
    """
    content = make_sbom(root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"folder of the bill of materials must be there, it cannot be made "
            f"({type(error).__name__}). Choose another path."
        ) from error
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return len(content["components"])


def make_sbom(root: Path, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Describe this environment and the repository's bundle, valid by CycloneDX's own schema.

    Args:
        root: Of the repository.
        environment: Variables; SOURCE_DATE_EPOCH, seconds since 1970, becomes the time in it.

    Returns:
        The content of a CycloneDX 1.6 JSON document.

    Raises:
        DatasetError: If `root` is not the repository.
        BundleError: If the bundle is not as its manifest says.
        ValueError: If SOURCE_DATE_EPOCH is no whole number, or the result breaks the schema.
    """
    packages = installed()
    bom = _describe_packages(packages, find_parts(root, packages))
    own, model = _describe_own(), describe_model(root)
    bom.metadata.component = own
    bom.metadata.authors.add(OrganizationalContact(name=MANUFACTURER))
    tool = Component(name=TOOL, version=packages[TOOL].version, bom_ref=f"tool {TOOL}")
    bom.metadata.tools.components.add(tool)
    bom.components.add(model)
    direct = {r.name.lower() for each in read_direct(root).values() for r in each}
    needed = [each for each in bom.components if each.name.lower() in direct]
    bom.register_dependency(own, [*needed, model])
    content: dict[str, Any] = json.loads(
        make_outputter(bom, OutputFormat.JSON, SCHEMA).output_as_string()
    )
    for component in content["components"]:
        if component.get("bom-ref") == MODEL_REF:
            component["modelCard"] = make_model_card(root)
    _set_identity(content, environment)
    broken = JsonStrictValidator(SCHEMA).validate_str(json.dumps(content))
    if broken is not None:
        raise ValueError(
            "the bill of materials must obey CycloneDX's schema, it does not: "
            f"{str(broken.data).splitlines()[0]}. Correct what was changed in the metadata."
        )
    return content


def _describe_own() -> Component:
    return Component(
        name="grata_monai",
        version=versions()[OWN],
        type=ComponentType.APPLICATION,
        bom_ref=OWN,
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
    )


def _describe_packages(packages: Mapping[str, Package], parts: Mapping[str, str]) -> Bom:
    """Make a bill of Python and the packages, and of what needs what."""
    components = {name: _describe(each, parts.get(name)) for name, each in packages.items()}
    python = Component(
        name="CPython",
        version=platform.python_version(),
        type=ComponentType.PLATFORM,
        bom_ref="cpython",
        licenses=[LicenseFactory().make_from_string("PSF-2.0")],
    )
    bom = Bom(components=[*components.values(), python])
    users = needed_by(packages)
    for name, component in components.items():
        needs = [n for n, each in users.items() if packages[name].name in each]
        bom.register_dependency(component, [components[n] for n in needs])
    return bom


def _describe(package: Package, part: str | None) -> Component:
    licence = package.licence
    references = []
    if package.tracker.startswith(WEB):
        references.append(
            ExternalReference(type=ExternalReferenceType.ISSUE_TRACKER, url=XsUri(package.tracker))
        )
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{package.name}=={package.version}",
        publisher=package.maker or None,
        description=package.summary or None,
        scope=SCOPES.get(part or "development"),
        licenses=[LicenseFactory().make_from_string(licence)] if licence else (),
        purl=PackageURL(
            "pypi", name=package.name.lower().replace("_", "-"), version=package.version
        ),
        external_references=references,
    )


def _set_identity(content: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Set time and serial number so that they depend on nothing but what is described."""
    del content["metadata"]["timestamp"]
    content.pop("serialNumber", None)
    digest = sha256(json.dumps(content, sort_keys=True).encode()).digest()
    content["serialNumber"] = uuid.UUID(bytes=digest[:16], version=5).urn
    seconds = environment.get("SOURCE_DATE_EPOCH", "")
    if not seconds:
        return
    if not seconds.isdecimal():
        raise ValueError(
            f"SOURCE_DATE_EPOCH must be a whole number of seconds, got {seconds!r}. Unset it."
        )
    time = datetime.fromtimestamp(int(seconds), tz=UTC)
    content["metadata"]["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ")
