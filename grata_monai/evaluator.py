"""A MONAI evaluator that predicts a case while the one before it is postprocessed and written.

Reading ahead is the data loader's. The thread that calls `run` predicts, so that Ctrl-C stops a
prediction at once; a second thread runs the engine as MONAI does: postprocessing, writer and every
handler, one case after the other. Ctrl-C ends it between two cases, never within one.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Semaphore
from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

from grata_monai.adapt.footprint import LARGEST_WHOLE

__all__ = ["OverlappingEvaluator"]


class OverlappingEvaluator(SupervisedEvaluator):
    """MONAI's `SupervisedEvaluator`, whose device need not wait for the writer.

    Every case gives what `SupervisedEvaluator` gives, and every handler sees the same events in the
    same order; an error of a prediction is raised in its own iteration. At most two predictions are
    held: one that is written, and one that is made or waits. A case whose logits take more than
    `LARGEST_WHOLE` bytes is predicted when the one before is written, and written before the next
    one is begun, so that memory is the same for it. So is a single case, without a second thread.
    """

    _ahead: Any = None  # output, or error, of the case whose iteration begins
    _channels = 1  # of the last prediction

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as MONAI's
        """Run over the data loader once.

        Args:
            global_epoch: As in MONAI.
        """
        if (self.state.epoch_length or 0) < 2:
            super().run(global_epoch)
            return
        loader, handover = self.data_loader, _Handover()
        self.data_loader = self._receive(handover)
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

        def conclude() -> None:
            with torch.inference_mode(modes[0]), torch.set_grad_enabled(modes[1]):
                super(OverlappingEvaluator, self).run(global_epoch)

        try:
            with ThreadPoolExecutor(1, "writer") as executor:
                concluded = executor.submit(conclude)
                concluded.add_done_callback(lambda _: handover.end())
                try:
                    self._predict_all(loader, handover)
                    concluded.result()
                except BaseException as error:
                    handover.close(error)
                    raise
        finally:
            self.data_loader, self._ahead = loader, None

    def _predict_all(self, loader: Any, handover: "_Handover") -> None:
        device_side = SupervisedEvaluator(
            self.state.device,
            loader,
            self.network,
            non_blocking=self.non_blocking,
            prepare_batch=self.prepare_batch,
            inferer=self.inferer,
            amp=self.amp,
            decollate=False,
            to_kwargs=self.to_kwargs,
            amp_kwargs=self.amp_kwargs,
        )
        device_side.mode, device_side.compile = self.mode, self.compile
        before = 0
        for batch in loader:
            if max(before, self._weigh(batch)) > LARGEST_WHOLE:
                handover.wait()
            if not handover.put(self._predict(device_side, batch)):
                return
            before = self._weigh(batch)
        handover.close()

    def _predict(self, device_side: SupervisedEvaluator, batch: Any) -> list[Any]:
        """The batch, and the output of MONAI's own iteration or the error that it raised."""
        if "failure" in batch:
            return [batch, None]
        try:
            output = device_side._iteration(device_side, batch)
        except Exception as error:
            return [batch, error]
        finally:
            device_side.state.output = None
        pred = output[CommonKeys.PRED]
        self._channels = pred.shape[1] if isinstance(pred, torch.Tensor) else 1
        stays = self.state.device.type == "cpu" or self._weigh(batch) > LARGEST_WHOLE
        return [batch, output] if stays else [_to_cpu(batch), _to_cpu(output)]

    def _weigh(self, batch: Any) -> int:
        """Bytes of a case's logits, as far as its channels are known by the one before it."""
        image = batch.get(CommonKeys.IMAGE) if isinstance(batch, Mapping) else None
        return 0 if image is None else 4 * self._channels * image[:, :1].numel()

    def _receive(self, handover: "_Handover") -> Iterator[Any]:
        """Give the engine batch by batch, and keep no case that is done."""
        while item := handover.take():
            self._ahead = item.pop()
            yield item.pop()
            handover.release()

    def _iteration(self, engine: Any, batchdata: Any) -> Any:
        """Go on from a prediction that was made ahead, or run MONAI's own iteration."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return super()._iteration(engine, batchdata)
        if isinstance(ahead, Exception):
            try:
                raise ahead
            finally:
                del ahead  # or it would hold itself, and the case's tensors
        engine.state.output = ahead
        del ahead
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output


class _Handover:
    """Where predicted cases are handed over, one at a time."""

    def __init__(self) -> None:
        self._items: SimpleQueue[list[Any] | BaseException] = SimpleQueue()
        self._is_free, self._has_ended = Semaphore(), False

    def put(self, item: list[Any]) -> bool:
        """Hand a case over when the one before it is done; say whether somebody still takes it."""
        self._is_free.acquire()
        self._items.put(item)
        return not self._has_ended

    def wait(self) -> None:
        """Wait until the case that was handed over is done."""
        with self._is_free:
            pass

    def close(self, error: BaseException | None = None) -> None:
        """Say that no case comes any more, because of an error if there is one."""
        self._items.put(error or [])

    def take(self) -> list[Any]:
        """Take the next case; an empty list after the last one."""
        item = self._items.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def release(self) -> None:
        """Say that the case that was taken is done."""
        self._is_free.release()

    def end(self) -> None:
        """Say that nobody takes cases any more."""
        self._has_ended = True
        self._is_free.release()


def _to_cpu(data: Any) -> Any:
    """Take tensors, also those in meta data, off the device, so that the next case has it alone."""
    if isinstance(data, Mapping):
        return {key: _to_cpu(value) for key, value in data.items()}
    if not isinstance(data, torch.Tensor):
        return data
    moved = data.cpu()
    if isinstance(moved, MetaTensor):
        moved.meta = _to_cpu(moved.meta)
    return moved
