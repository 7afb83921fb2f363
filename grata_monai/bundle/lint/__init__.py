"""The gatekeeper: is a bundle what it was when it was published, and is it data only?

``manifest`` holds every file to its hash; the entry points ask it before they parse anything. The
other modules read a bundle without running any of it, and say what a careful hospital would refuse.
"""

from grata_monai.bundle.verify import verify_bundle, verify_manifest, write_manifest

__all__ = ["verify_bundle", "verify_manifest", "write_manifest"]
