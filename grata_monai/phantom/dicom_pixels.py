"""Turn intensities into stored pixels, and stored pixels into an instance's Pixel Data."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit

from grata_monai.phantom.dicom_options import LIBRARY, OWN, HTJ2KLossless, SeriesOptions
from grata_monai.phantom.geometry import Float64
from grata_monai.phantom.jpeg import encode_baseline, encode_high_throughput, encode_lossless

__all__ = ["encode", "store"]


def store(image: NDArray[np.number], options: SeriesOptions) -> NDArray[np.int64]:
    """Round to stored values, shape of `image`; they must fit."""
    if image.ndim != 3 or min(image.shape) < 1:
        raise ValueError(f"image must have three axes, got shape {image.shape}. Give one volume.")
    slope, intercept = np.transpose(options.read_rescales(image.shape[2]))
    stored: Float64 = np.rint((image - intercept) / slope)
    low = -(1 << (options.bits_stored - 1)) if options.is_signed else 0
    high = low + (1 << options.bits_stored) - 1
    if not ((stored >= low) & (stored <= high)).all():
        raise ValueError(
            f"stored values must lie in {low} to {high}, got {stored.min():g} to {stored.max():g}. "
            "Choose another rescale, more bits, or signed pixels."
        )
    whole: NDArray[np.int64] = stored.astype(np.int64)
    return whole


def encode(instance: Dataset, frames: NDArray[np.int64], options: SeriesOptions) -> None:
    """Set the Image Pixel module from frames of shape (frames, rows, columns)."""
    syntax = UID(options.transfer_syntax)
    allocated = 8 if options.bits_stored <= 8 else 16
    instance.SamplesPerPixel = 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    _, instance.Rows, instance.Columns = frames.shape
    instance.BitsAllocated, instance.BitsStored = allocated, options.bits_stored
    instance.HighBit = options.bits_stored - 1
    instance.PixelRepresentation = int(options.is_signed)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    pixels = frames.astype(f"{order}{'i' if options.is_signed else 'u'}{allocated // 8}")
    if syntax in OWN:
        instance.PixelData = encapsulate([_compress(frame, options) for frame in frames])
        instance["PixelData"].VR = "OB"
        if syntax == JPEGBaseline8Bit:
            instance.LossyImageCompression = "01"
            instance.LossyImageCompressionMethod = "ISO_10918_1"
            instance.LossyImageCompressionRatio = "4.0"
        return
    content = pixels.tobytes()
    instance.PixelData = content + b"\0" * (len(content) % 2)
    instance["PixelData"].VR = "OB" if allocated == 8 else "OW"
    if syntax in LIBRARY:
        instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        instance.compress(syntax, generate_instance_uid=False)


def _compress(frame: NDArray[np.int64], options: SeriesOptions) -> bytes:
    if options.transfer_syntax == JPEGBaseline8Bit:
        return encode_baseline(frame.astype(np.uint8))
    if options.transfer_syntax == HTJ2KLossless:
        kind = f"{'i' if options.is_signed else 'u'}{1 if options.bits_stored <= 8 else 2}"
        return encode_high_throughput(frame.astype(kind))
    mask = (1 << options.bits_stored) - 1
    return encode_lossless((frame & mask).astype(np.uint16), bits=options.bits_stored)
