"""The bundle as a component of a CycloneDX bill of materials, with its model card."""

from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.component import Component, ComponentType

from grata_monai.bundle.lint import verify_manifest
from grata_monai.bundle.verify import MANIFEST
from tools.compliance.card import read_bundle, read_limits
from tools.compliance.scores import read_scores

__all__ = ["MODEL_REF", "describe_model", "make_model_card"]

MODEL_REF = "bundle"
WEIGHTS = "models/model.pt"


def describe_model(root: Path) -> Component:
    """Describe the bundle: name, version, licence, hash of the weights, and every file.

    Args:
        root: Of the repository.

    Returns:
        A machine-learning model; its parts are the files that the manifest lists.

    Raises:
        BundleError: If the bundle is not as its manifest says.
    """
    digest = verify_manifest(root / "bundle")
    about = read_bundle(root / "bundle").metadata
    files = _read_manifest(root / "bundle")
    return Component(
        name=about["name"],
        version=about["version"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=MODEL_REF,
        publisher=about["authors"],
        description=about["description"],
        hashes=[_sha256(files[WEIGHTS])],
        licenses=[LicenseFactory().make_with_name(about["copyright"])],
        properties=[
            Property(name="grata_monai:manifest_sha256", value=digest),
            Property(name="grata_monai:data_source", value=about["data_source"]),
            Property(name="grata_monai:intended_use", value=about["intended_use"]),
        ],
        components=[
            Component(
                name=name,
                type=ComponentType.FILE,
                bom_ref=f"{MODEL_REF}/{name}",
                hashes=[_sha256(value)],
            )
            for name, value in {**files, MANIFEST: digest}.items()
        ],
    )


def make_model_card(root: Path) -> dict[str, Any]:
    """Make the model card of the component, in the words of CycloneDX's schema.

    The library knows no model cards yet, so this is put into the document itself.

    Args:
        root: Of the repository.

    Returns:
        The value of ``modelCard``.

    Raises:
        BundleError: If a file of the bundle cannot be read.
        DatasetError: If there is no table of scores.
    """
    bundle = read_bundle(root / "bundle")
    about = bundle.metadata
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": about["task"],
            "architectureFamily": "convolutional neural network",
            "modelArchitecture": bundle.config["network_def"]["_target_"],
            "datasets": [{"type": "dataset", "name": about["data_source"]}],
            "inputs": [{"format": f"{about['image_classes']}; {about['data_type']}"}],
            "outputs": [{"format": about["label_classes"]}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {
                    "type": f"mean Dice, {score.method}",
                    "value": score.dice,
                    "slice": f"{score.centre}: {score.cases} cases",
                }
                for score in read_scores(root)
            ]
        },
        "considerations": {
            "users": ["researchers who check every mask"],
            "useCases": [about["intended_use"]],
            "technicalLimitations": read_limits(root),
        },
    }


def _read_manifest(bundle: Path) -> dict[str, str]:
    """File to digest; the manifest was verified before."""
    lines = (bundle / MANIFEST).read_text(encoding="utf-8").splitlines()
    return {line[66:]: line[:64] for line in lines}


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)
