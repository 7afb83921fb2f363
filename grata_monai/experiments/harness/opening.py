"""Open a network for experiments: this project's bundle, any other, or a trained nnU-Net folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.transforms import Compose

from grata_monai.adapt.network import hash_weights
from grata_monai.bundle.foreign import comes_unverified, is_foreign, open_foreign
from grata_monai.bundle.network import choose_device
from grata_monai.bundle.open import Bundle, open_bundle
from grata_monai.bundle.verify import describe_verified, verify_bundle
from grata_monai.experiments.harness.bench import Bench, make_bare
from grata_monai.experiments.harness.key import digest
from grata_monai.experiments.harness.options import WEIGHTS
from grata_monai.nnunet.folder import is_folder, verify_folder
from grata_monai.read.image import ReadLabeld
from grata_monai.record.environment import versions

__all__ = ["open_bench", "verify_network"]

NOT_DECIDING = ("bundle_root", "dataset_dir", "device", "only", "output_dir", "verified")


def open_bench(
    bundle_dir: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    unverified: bool = False,
) -> Bench:
    """Build what a bundle's inference configuration describes.

    Args:
        bundle_dir: Root of a bundle whose inferer is `GraTaInferer`, or of any other, which is
            wrapped in memory, as `wrap` would; or a trained nnU-Net folder.
        settings: Ids of the configuration and their values, such as ``{"precision": "bf16"}``.
        unverified: Do not hold the bundle to its manifest.

    Returns:
        The bench; patches are chosen as the bundle's recipe says.

    Raises:
        BundleError: If the bundle is not as its manifest says; nothing of it was parsed then.
        SettingError: If a setting has no id of the configuration.
    """
    if is_folder(Path(bundle_dir)):
        from grata_monai.experiments.harness.nnunet import open_nnunet  # noqa: PLC0415

        return open_nnunet(Path(bundle_dir), dict(settings or {}), unverified=unverified)
    if is_foreign(bundle_dir, unverified=unverified):
        return _open_wrapped(bundle_dir, dict(settings or {}), unverified=unverified)
    bundle = open_bundle(bundle_dir, ("evaluate",), settings, unverified=unverified)
    if bundle.config.get("report") is True:  # a row has no page, and no maps to put on one
        bundle.set({"report": False})
    inferer = bundle.get("inferer")
    return Bench(
        network=bundle.network.eval(),
        inferer=inferer.inferer,
        preprocessing=bundle.preprocessing,
        postprocessing=bundle.postprocessing,
        activation=inferer.activation,
        single_piece=inferer.single_piece,
        precision=inferer.precision,
        device=bundle.device,
        bare=make_bare(inferer.recipe),
        verified=bundle.verified,
        fingerprint=_digest_bundle(bundle),
        profile=inferer.profile,
        mirroring=inferer.mirroring,
    )


def verify_network(path: Path, *, unverified: bool = False) -> str:
    """Say in what state a bundle or a trained nnU-Net folder is, for reports.

    Raises:
        BundleError: If it is not as its manifest says.
    """
    if is_folder(path):
        return describe_verified(verify_folder(path, unverified=unverified))
    unverified = unverified or comes_unverified(path)
    return describe_verified(verify_bundle(path, unverified=unverified))


def _open_wrapped(bundle_dir: str | Path, settings: dict[str, Any], *, unverified: bool) -> Bench:
    """Build what somebody else's bundle describes; labels are read by us, on their own grid."""
    device = str(choose_device(settings.pop("device#name", "auto")))
    precision = settings.pop("precision", "fp32")
    weights = settings.pop(WEIGHTS, None)
    found = open_foreign(
        bundle_dir, device=device, settings=settings, weights=weights, unverified=unverified
    )
    inferer = found.inferer
    return Bench(
        network=found.network,
        inferer=inferer.inferer,
        preprocessing=Compose([*found.preprocessing.transforms, ReadLabeld("label")]),
        postprocessing=found.postprocessing,
        activation=inferer.activation,
        single_piece=inferer.single_piece,
        precision=precision,
        device=found.device,
        bare=make_bare(inferer.recipe),
        verified=found.bundle.verified,
        fingerprint=digest(
            bundle=_digest_bundle(found.bundle), weights=hash_weights(found.network)
        ),
        profile=inferer.profile,
        mirroring=inferer.mirroring,
    )


def _digest_bundle(bundle: Bundle) -> str:
    config = {key: value for key, value in bundle.config.items() if key not in NOT_DECIDING}
    if isinstance(config.get("network"), Mapping):  # weights count by what is in them
        config["network"] = {k: v for k, v in config["network"].items() if k != "weights"}
    network = bundle.get("network" if "network" in config else "network_def")
    weights, package = hash_weights(network), versions()["grata-monai"]
    return digest(configuration=config, weights=weights, package=package)
