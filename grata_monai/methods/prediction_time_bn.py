"""Prediction-time batch normalisation: the image's statistics in place of the source's."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from grata_monai.adapt.method import Episode, Method, State
from grata_monai.adapt.network import copy_network
from grata_monai.adapt.statistics import mix_statistics
from grata_monai.methods.common import refuse_without_batch_norm

__all__ = ["PredictionTimeBN"]


@dataclass(frozen=True)
class PredictionTimeBN(Method):
    """Normalise with the mean and variance of what is predicted, not of the training data.

    Source:
        Nado et al., Evaluating Prediction-Time Batch Normalization for Robustness under Covariate
        Shift, 2020 (arXiv 2006.10963). No hyper-parameter but the batch.

    Deviations:
        The batch is one window of the inferer; the paper takes up to 500 images.
    """

    name: ClassVar[str] = "prediction_time_bn"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without BatchNorm."""
        return refuse_without_batch_norm(network)

    def start(self, network: nn.Module, episode: Episode) -> State:
        """Copy the network and drop the source statistics of the copy."""
        copied = copy_network(network)
        statistics = mix_statistics(copied, 1.0)
        return State(episode=episode, network=copied, image_statistics=statistics, is_foreign=True)
