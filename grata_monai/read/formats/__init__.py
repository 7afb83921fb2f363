"""Headers and stored voxels of NIfTI, MetaImage and NRRD files, read in the sandbox.

Light on purpose: the subprocess that reads untrusted bytes imports this package, and no MONAI.
"""

__all__: list[str] = []
