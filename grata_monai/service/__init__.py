"""A service that runs day and night: receive, queue, segment, deliver, and say what became of it.

One process listens and supervises; a worker per slot segments, another delivers. What they share is
a folder: `Spool` for DICOM objects, `Ledger` for what became of each series, a queue of jobs, and
the audit log. Names outside DICOM objects are hashes.
"""

__all__: list[str] = []
