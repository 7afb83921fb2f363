"""The one door to a bundle: open, verify, lint, wrap; what its configuration asks of Python."""

from grata_monai.bundle.network import choose_device, load_network
from grata_monai.bundle.open import Bundle, open_bundle
from grata_monai.bundle.workflow import (
    check_given_settings,
    check_running_bundle,
    find_bundle_root,
    find_profile,
    hash_configuration,
    report_errors_in_one_line,
    verify_own_bundle,
)

__all__ = [
    "Bundle",
    "check_given_settings",
    "check_running_bundle",
    "choose_device",
    "find_bundle_root",
    "find_profile",
    "hash_configuration",
    "load_network",
    "open_bundle",
    "report_errors_in_one_line",
    "verify_own_bundle",
]
