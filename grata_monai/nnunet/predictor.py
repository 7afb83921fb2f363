"""nnU-Net's predictor with our inferer between its sliding window and its export."""

import contextlib
import copy
import io
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SliceInferer
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray
from torch import Tensor, nn

from grata_monai.adapt.mirroring import Mirroring
from grata_monai.adapt.recipe import Recipe
from grata_monai.core.verified import Verified
from grata_monai.inferer import GraTaInferer
from grata_monai.nnunet.build import build_network
from grata_monai.nnunet.ensemble import list_members
from grata_monai.nnunet.folder import LONGEST, ModelFolder
from grata_monai.nnunet.grid import restore
from grata_monai.nnunet.options import Options, Segmented
from grata_monai.nnunet.views import fit_recipe, network_axes

__all__ = ["GraTaPredictor"]


class GraTaPredictor(nnUNetPredictor):
    """An `nnUNetPredictor` that adapts its network to every case.

    Whatever nnU-Net does with a predictor works with it. The whole image is predicted as nnU-Net
    predicts it: its window, its mirror images, its half precision, fold by fold. Regions and views,
    by which adaptation is judged, are predicted once, without further mirror images in them.

    Args:
        folder: Trained.
        options: How to predict.

    Attributes:
        inferer: Ours, with nnU-Net's window in it.
        names: Of the labels, by their numbers in the mask.
    """

    def __init__(self, folder: ModelFolder, options: Options) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it says what it does not do on a CPU
            super().__init__(
                tile_step_size=options.step_size,
                use_mirroring=options.is_mirrored,
                device=options.device,
                perform_everything_on_device=options.device.type == "cuda",
                allow_tqdm=False,
            )
        plans = PlansManager(copy.deepcopy(folder.plans))
        first, self.names = folder.checkpoints[0], folder.labels
        self.manual_initialization(
            build_network(folder, plans, options.device),
            plans,
            plans.get_configuration(folder.configuration),
            None,
            folder.dataset,
            first.trainer,
            first.mirroring,
        )
        roi_size = tuple(int(extent) for extent in self.configuration_manager.patch_size)
        kind = _Window if len(roi_size) == 3 else _SliceWindow
        self.window: _Window | _SliceWindow = kind(self, roi_size)
        self._axes = network_axes(plans.transpose_forward)
        shift = 3 - len(roi_size)  # a 2D network's axes are counted in its plane
        self.inferer = GraTaInferer(
            self.window,
            self.fit(options.recipe),
            method=options.method,
            precision="fp16" if options.device.type == "cuda" else "fp32",  # nnU-Net's autocast
            activation="sigmoid" if self.label_manager.has_regions else "softmax",
            mirroring=Mirroring(tuple(axis + shift for axis in first.mirroring or ())),
            keep_source=self.label_manager.has_regions,
            keep_maps=True,
            bundle=_name_version(folder.verified),
            profile=options.profile,
        )

    def fit(self, recipe: Recipe) -> Recipe:
        """Turn a recipe's views, by x, y, z of an image file, to the axes of the network."""
        dims = len(self.configuration_manager.patch_size)
        return fit_recipe(recipe, self._axes, self.allowed_mirroring_axes, dims)

    def segment(self, voxels: NDArray[Any], properties: dict[str, Any]) -> Segmented:
        """Segment an image as it was read: preprocess, adapt, predict, bring back.

        Args:
            voxels: (c, z, y, x).
            properties: Of the reader; ``spacing`` at least, (z, y, x), mm.

        Returns:
            Mask and record.
        """
        data, noted = self.preprocess(voxels, properties)
        pred = self.adapt(data, self.find_spacing(noted))
        labels = self.export(pred.as_tensor(), noted)
        maps = restore(self._draw(pred), noted, self.plans_manager.transpose_backward)
        return Segmented(labels, noted, pred.meta["grata"], maps)

    def preprocess(
        self, voxels: NDArray[Any], properties: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        """Bring an image (c, z, y, x) to the network's grid, (c, *s), and note how."""
        preprocessor = self.configuration_manager.preprocessor_class(verbose=False)
        data, _, noted = preprocessor.run_case_npy(
            voxels, None, properties, self.plans_manager, self.configuration_manager,
            self.dataset_json,
        )  # fmt: skip
        return torch.from_numpy(data), noted

    def export(self, logits: Tensor, properties: dict[str, Any]) -> NDArray[Any]:
        """Make logits (1, k, *s) a mask (z, y, x) on the image's grid, by what was noted."""
        labels = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits[0].half().cpu(), self.plans_manager, self.configuration_manager,
            self.label_manager, properties, num_threads_torch=torch.get_num_threads(),
        )  # fmt: skip
        return np.asarray(labels)

    def find_spacing(self, properties: Mapping[str, Any]) -> tuple[float, ...]:
        """Of the network's grid, mm; a 2D network keeps the distance of slices."""
        spacing = [float(step) for step in self.configuration_manager.spacing]
        if len(spacing) == 3:
            return tuple(spacing)
        first = properties["spacing"][self.plans_manager.transpose_forward[0]]
        return (float(first), *spacing)

    def _draw(self, pred: MetaTensor) -> Tensor:
        """Take what a reader is shown; regions have labels of their own."""
        maps: Tensor = pred.meta["grata_maps"][0]
        if self.label_manager.has_regions:
            source = pred.meta["grata_source"][0].cpu()
            labels = self.label_manager.convert_logits_to_segmentation(source)
            maps = torch.stack([torch.as_tensor(labels).to(maps), maps[1]])
        return maps

    def predict_logits_from_preprocessed_data(self, data: Tensor) -> Tensor:
        """Return the logits (k, *s) of a preprocessed image (c, *s), in half precision."""
        return self.adapt(data).as_tensor()[0].half().cpu()

    def adapt(self, data: Tensor, spacing: tuple[float, ...] | None = None) -> MetaTensor:
        """Predict a preprocessed image with the network adapted to it.

        Args:
            data: (c, *s).
            spacing: Of its axes, mm, if known.

        Returns:
            What `GraTaInferer` returns.
        """
        images = data[None].to(device=self.device, dtype=torch.float32)
        whole: Tensor = images
        if spacing is not None:
            affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
            whole = MetaTensor(images, affine=affine)
        inferer = copy.copy(self.inferer)
        inferer.inferer = self.window.of(images)
        with _as_many_threads_as_nnunet():
            pred: MetaTensor = inferer(whole, self.network)
        return pred

    def predict_window(self, images: Tensor, network: nn.Module, *, is_mirrored: bool) -> Tensor:
        """Run nnU-Net's sliding window with a network that is not its own.

        Args:
            images: (1, c, *s).
            network: With any weights; an ensemble's members are averaged as nnU-Net averages folds.
            is_mirrored: Whether to average over mirror images, where the checkpoint allows it.

        Returns:
            Logits (1, k, *s), of values in half precision.
        """
        worker = copy.copy(self)
        worker.use_mirroring = is_mirrored and self.use_mirroring
        worker.device = images.device
        worker.perform_everything_on_device = images.device.type == "cuda"
        first, *others = list_members(network)
        total = _slide(worker, first, images)
        for member in others:
            total = total + _slide(worker, member, images)
        if others:
            total = total / (1 + len(others))
        return total[None].to(images.device).float()


class _Window(Inferer):
    """nnU-Net's window as MONAI's interface has it.

    Args:
        predictor: Whose window it is.
        roi_size: The patch.
        whole: The image of the case, (1, c, *s), by which a prediction of all of it is known.
    """

    def __init__(
        self, predictor: GraTaPredictor, roi_size: tuple[int, ...], whole: Tensor | None = None
    ) -> None:
        super().__init__()
        self.predictor, self.roi_size, self.whole = predictor, roi_size, whole

    def of(self, whole: Tensor) -> "_Window":
        """Return the window for a case."""
        return type(self)(self.predictor, self.roi_size, whole)

    def __call__(self, inputs: Tensor, network: nn.Module, *_: Any, **__: Any) -> Tensor:  # type: ignore[override]
        is_whole = _is_equal(inputs, self.whole)
        logits: Tensor = self.predictor.predict_window(inputs, network, is_mirrored=is_whole)
        return logits


class _SliceWindow(SliceInferer):
    """The same for a 2D network, which does not see the first axis; `_Window` says the rest."""

    def __init__(
        self, predictor: GraTaPredictor, roi_size: tuple[int, ...], whole: Tensor | None = None
    ) -> None:
        super().__init__(spatial_dim=0, roi_size=roi_size)
        self.window = _Window(predictor, roi_size, whole)

    def of(self, whole: Tensor) -> "_SliceWindow":
        """Return the window for a case."""
        return type(self)(self.window.predictor, self.window.roi_size, whole)

    def __call__(self, inputs: Tensor, network: nn.Module, *_: Any, **__: Any) -> Tensor:  # type: ignore[override]
        return self.window(inputs, network)


def _slide(worker: nnUNetPredictor, member: nn.Module, images: Tensor) -> Tensor:
    """Return logits (k, *s) on the CPU, where nnU-Net adds up folds."""
    worker.network = member
    logits: Tensor = worker.predict_sliding_window_return_logits(images[0])
    return logits.to("cpu")


def _is_equal(images: Tensor, whole: Tensor | None) -> bool:
    if whole is None or images.shape != whole.shape:
        return False
    return torch.equal(images, whole.to(images.device))


def _name_version(verified: Verified) -> Verified:
    """Say in the record which nnU-Net ran."""
    words = f"{verified['version']}, nnunetv2 {version('nnunetv2')}"
    return Verified({**verified, "version": words[-LONGEST:]})


@contextlib.contextmanager
def _as_many_threads_as_nnunet() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(default_num_processes, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
