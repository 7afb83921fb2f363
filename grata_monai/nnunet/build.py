"""Build the network of a trained nnU-Net folder, by whichever interface its version has."""

import inspect
from typing import Any

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from grata_monai.core.errors import NetworkError, WeightsError
from grata_monai.nnunet.ensemble import Ensemble
from grata_monai.nnunet.folder import ModelFolder

__all__ = ["build_network"]


def build_network(folder: ModelFolder, plans: PlansManager, device: torch.device) -> nn.Module:
    """Build the network, one for each fold, and load its weights.

    Args:
        folder: What was read.
        plans: nnU-Net's own view of it.
        device: Where it shall lie.

    Returns:
        The network in evaluation mode; an `Ensemble` of more than one fold.

    Raises:
        NetworkError: If the trainer is not installed, or cannot build the network.
        WeightsError: If the weights do not fit.
    """
    members = []
    for fold, checkpoint in zip(folder.folds, folder.checkpoints, strict=True):
        network = _build(folder, plans)
        try:
            network.load_state_dict(checkpoint.weights)
        except RuntimeError as error:
            raise WeightsError(
                f"weights of fold {fold} must fit the network of plans.json, they do not: "
                f"{' '.join(str(error).split())[:300]} Copy plans.json and fold_{fold} anew."
            ) from error
        members.append(network.to(device).eval())
    return members[0] if len(members) == 1 else Ensemble(members)


def _build(folder: ModelFolder, plans: PlansManager) -> nn.Module:
    name = folder.checkpoints[0].trainer
    settings = plans.get_configuration(folder.configuration)
    try:
        build = _find_trainer(name).build_network_architecture
        if "plans_manager" in inspect.signature(build).parameters:
            first: tuple[Any, ...] = (plans, settings)
        else:  # before nnunetv2 2.7
            first = (
                settings.network_arch_class_name,
                settings.network_arch_init_kwargs,
                settings.network_arch_init_kwargs_req_import,
            )
        inputs = determine_num_input_channels(plans, settings, folder.dataset)
        outputs = plans.get_label_manager(folder.dataset).num_segmentation_heads
        network: nn.Module = build(*first, inputs, outputs, enable_deep_supervision=False)
    except Exception as error:  # whatever a foreign trainer and foreign plans lead to
        raise NetworkError(
            f"nnU-Net must be able to build the network that {name!r} trained, it is not: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]} "
            "Install the nnunetv2 that trained it; a trainer of your own must be found by it too."
        ) from error
    return network


def _find_trainer(name: str) -> Any:
    try:
        from nnunetv2.utilities.find_objects import (  # noqa: PLC0415
            recursive_find_trainer_class_by_name,
        )
    except ImportError:  # before nnunetv2 2.7
        return _find_trainer_within(name)
    return recursive_find_trainer_class_by_name(name)


def _find_trainer_within(name: str) -> Any:
    from nnunetv2 import training  # noqa: PLC0415
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class  # noqa: PLC0415

    places = [f"{place}/nnUNetTrainer" for place in training.__path__]
    found = recursive_find_python_class(places[0], name, "nnunetv2.training.nnUNetTrainer")
    if found is None:
        raise LookupError("there is no such trainer")
    return found
