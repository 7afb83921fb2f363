"""MONAI Deploy: the bundle's DICOM path as an application of the App SDK, for a MAP.

``job`` is what happens to a case and needs no SDK. ``operators`` and ``application`` put it into
the SDK's graph; no other module imports the SDK.
"""

__all__: list[str] = []
