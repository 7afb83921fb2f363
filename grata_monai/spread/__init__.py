"""Spread parts of a run over several processes, on this machine or on a cluster's with SLURM.

Parts wait in a durable queue: a worker that is killed is started again, and begins its part anew.
"""

from grata_monai.spread.run import Task, Workers, spread

__all__ = ["Task", "Workers", "spread"]
