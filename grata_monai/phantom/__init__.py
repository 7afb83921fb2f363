"""Synthetic pelvic T2-weighted MR cases with exact prostate ground truth and chosen scanner shifts.

A patient is a list of smooth bodies in millimetres, painted one over the other; any grid samples
the same patient. Patient coordinates are RAS in mm with their origin at the centre of the gland.
`case` holds what callers use; `anatomy` draws the patient out of bodies of `geometry`, `painter`
renders him, and `scanner` changes the intensities.
"""

from grata_monai.phantom.case import PhantomCase, make_case, write_cases
from grata_monai.phantom.scanner import SHIFTS, apply_scanner_shift

__all__ = ["SHIFTS", "PhantomCase", "apply_scanner_shift", "make_case", "write_cases"]
