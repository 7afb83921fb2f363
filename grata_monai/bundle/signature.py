"""Sign a bundle with a key, and verify who signed it, offline, by OpenSSF's `model_signing`."""

import os
from pathlib import Path
from typing import Any

from grata_monai.core.errors import BundleError
from grata_monai.core.files import atomic_path

__all__ = ["KEY_VARIABLE", "SIGNATURE", "required_key", "sign_folder", "verify_signature"]

SIGNATURE = "manifest.sha256.sig"
"""Beside the manifest; a Sigstore bundle with one signature and no log entry."""

KEY_VARIABLE = "GRATA_BUNDLE_KEY"


def required_key() -> Path | None:
    """Which public key the operator asks for, by the environment; None if any bundle may be opened.

    The environment belongs to whoever runs the process, and reaches every host.
    """
    text = os.environ.get(KEY_VARIABLE, "")
    return Path(text) if text else None


def sign_folder(root: Path, key: Path, *, ignored: tuple[str, ...]) -> Path:
    """Sign every file of a bundle, whole or not at all.

    Args:
        root: Of the bundle.
        key: PEM file of a private key on a NIST curve, not encrypted.
        ignored: What is no part of the bundle: files and folders in it.

    Returns:
        The signature.

    Raises:
        ValueError: If the file holds no such key.
        OutputError: If the signature cannot be written.
        ModuleNotFoundError: If the extra ``sign`` is not installed.
    """
    from model_signing.signing import Config  # noqa: PLC0415  # an extra

    try:
        config = Config().use_elliptic_key_signer(private_key=key)
    except Exception as error:  # whatever the reader of keys raises
        raise ValueError(_no_key("key", "private", key)) from error
    with atomic_path(root / SIGNATURE) as path:
        _configure(config, (*ignored, SIGNATURE, path.name)).sign(root, path)
    return root / SIGNATURE


def verify_signature(root: Path, key: Path, *, ignored: tuple[str, ...]) -> None:
    """Refuse a bundle that was not signed with a key, or has changed since. Nothing is parsed.

    Args:
        root: Of the bundle.
        key: PEM file of the public key.
        ignored: What is no part of the bundle.

    Raises:
        BundleError: If there is no signature, or it is not of this key and this content.
        ValueError: If the file holds no such key.
        ModuleNotFoundError: If the extra ``sign`` is not installed.
    """
    from model_signing.verifying import Config  # noqa: PLC0415  # an extra

    if not (root / SIGNATURE).is_file():
        raise BundleError(
            f"a bundle must be signed here, {root.name!r} has no {SIGNATURE}. Get a signed one, or "
            f"read it and sign it with your own key; {KEY_VARIABLE} asks for this."
        )
    try:
        config = Config().use_elliptic_key_verifier(public_key=key)
    except Exception as error:
        raise ValueError(_no_key(KEY_VARIABLE, "public", key)) from error
    try:
        _configure(config, (*ignored, SIGNATURE)).verify(root, root / SIGNATURE)
    except Exception as error:  # of the format, of the key, or of a file
        raise BundleError(
            f"a bundle must be as it was signed with the key of {KEY_VARIABLE}, {root.name!r} is "
            f"not ({type(error).__name__}). Get it again from who signed it."
        ) from error


def _configure(config: Any, ignored: tuple[str, ...]) -> Any:
    from model_signing.hashing import Config  # noqa: PLC0415

    hashing = Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)
    return config.set_hashing_config(hashing)


def _no_key(what: str, kind: str, key: Path) -> str:
    return (
        f"{what} must be a PEM file with a {kind} key on a NIST curve, not encrypted, {key.name!r} "
        "is none. Make one: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
    )
