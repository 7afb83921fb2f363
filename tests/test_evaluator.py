"""A case is predicted while the one before it is written, and nothing else changes."""

import gc
import signal
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor, ThreadDataLoader
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, Lambda
from torch import nn

import grata_monai.evaluator
from grata_monai.core.errors import IntensityError, OutputError
from grata_monai.core.failures import list_failures
from grata_monai.evaluator import OverlappingEvaluator, _to_cpu
from grata_monai.handlers import segment_or_report
from grata_monai.read.dataset import CaseDataset, collate_cases
from grata_monai.write.resume import run_cases

PATIENCE_S = 20  # how long a test waits for what must come


class Ward:
    """Cases a, b, … of which a test says what happens when they are read, predicted or written.

    Attributes:
        events: What happened, in order, such as ``predict a``, ``write a``, ``written a``.
        on: What a test does at an event.
        held: Predictions that somebody still holds.
    """

    def __init__(self, names: str = "abcd") -> None:
        self.names = names
        self.events: list[str] = []
        self.on: dict[str, Any] = {}
        self.held: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()

    def note(self, event: str) -> None:
        self.events.append(event)
        self.on.get(event, lambda: None)()

    def read(self, item: dict[str, Any]) -> dict[str, Any]:
        self.note(f"read {item['case']}")
        number = float(self.names.index(item["case"]))
        image = MetaTensor(torch.full((1, 4, 4), number), meta={"case": item["case"]})
        return {**item, "image": image}

    def predict(self, inputs: MetaTensor, network: nn.Module) -> torch.Tensor:
        case = inputs.meta["case"][0]
        self.note(f"predict {case}")
        pred = torch.cat([inputs, inputs + 1], dim=1) * 2
        self.held.add(pred)
        self.note(f"predicted {case}")
        return pred

    def write(self, item: dict[str, Any]) -> dict[str, Any]:
        self.note(f"write {item['case']}")
        assert item["pred"].device.type == "cpu"
        assert torch.equal(item["pred"][0], 2 * item["image"][0])
        self.note(f"written {item['case']}")
        return item

    def evaluator(self, kind: type = OverlappingEvaluator, device: Any = "cpu") -> Any:
        data = CaseDataset([{"case": name} for name in self.names], self.read)
        loader = ThreadDataLoader(data, batch_size=1, num_workers=0, collate_fn=collate_cases)
        engine = kind(
            device=torch.device(device),
            val_data_loader=loader,
            network=nn.Identity(),
            inferer=self.predict,
            postprocessing=Compose([Lambda(self.write)]),
            iteration_update=segment_or_report,
        )
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.report)
        return engine

    def report(self, engine: Any) -> None:
        items = engine.state.batch
        self.note(f"report {items[0]['case'] if items else 'failure'}")

    def run(self, folder: Any, engine: Any = None) -> Any:
        engine = engine or self.evaluator()
        run_cases(engine, cases=self.names, pending=self.names, output_dir=folder)
        return engine

    def of(self, *kinds: str) -> list[str]:
        return [event for event in self.events if event.split()[0] in kinds]


@pytest.fixture
def ward() -> Ward:
    return Ward()


def wait_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S), "what the test waits for did not come"


def fail_on(case: str) -> Any:
    def collate(batch: Any) -> Any:
        if batch[0]["case"] == case:
            raise ValueError("no batch")
        return collate_cases(batch)

    return collate


def fail(error: BaseException) -> Any:
    def raise_it() -> None:
        raise error

    return raise_it


def test_a_case_is_predicted_while_the_one_before_it_is_written(ward, tmp_path):
    """No write ends before the next prediction: a serial run would wait for ever."""
    for case, following in zip("abc", "bcd", strict=True):
        begun = threading.Event()
        ward.on[f"predict {following}"] = begun.set
        ward.on[f"write {case}"] = lambda begun=begun: wait_for(begun)
    ward.run(tmp_path)
    assert ward.of("written", "report") == [
        f"{what} {case}" for case in "abcd" for what in ("written", "report")
    ]


def test_a_prediction_that_is_made_is_all_that_waits(ward, tmp_path):
    """While a is written, b is predicted and kept; c is not begun, however long it takes."""
    b, late = threading.Event(), []
    ward.on["predicted b"] = b.set

    def check() -> None:
        wait_for(b)
        late.extend(ward.of("predict"))

    ward.on["report a"] = check
    ward.run(tmp_path)
    assert late == ["predict a", "predict b"]
    for earlier, later in zip("abc", "bcd", strict=True):
        assert ward.events.index(f"predicted {earlier}") < ward.events.index(f"predict {later}")
    for earlier, later in zip("ab", "cd", strict=True):
        assert ward.events.index(f"report {earlier}") < ward.events.index(f"predict {later}")


def test_nothing_of_a_case_that_is_done_is_held(ward, tmp_path):
    most = []
    for case in "abcd":
        ward.on[f"predict {case}"] = lambda: (gc.collect(), most.append(len(ward.held)))
    ward.run(tmp_path)
    assert max(most) <= 1  # the one that is written
    gc.collect()
    assert len(ward.held) == 0


def test_every_handler_sees_what_monais_evaluator_shows_it(ward, tmp_path):
    serial = Ward()
    serial.run(tmp_path, serial.evaluator(SupervisedEvaluator))
    ward.run(tmp_path)
    kinds = ("write", "written", "report")
    assert ward.of(*kinds) == serial.of(*kinds)
    assert ward.of("predict") == serial.of("predict")


@pytest.mark.parametrize("where", ["read", "predict", "write"])
@pytest.mark.parametrize("case", ["a", "c", "d"])
def test_a_case_that_fails_anywhere_is_named_and_stops_nobody(ward, tmp_path, where, case):
    ward.on[f"{where} {case}"] = fail(IntensityError("voxels must be finite, they are not."))
    engine = ward.run(tmp_path)
    (failure,) = list_failures(engine)
    assert (failure.case, failure.reason) == (case, "IntensityError")
    assert failure.message == "voxels must be finite, they are not."
    others = [name for name in ward.names if name != case]
    assert ward.of("written") == [f"written {name}" for name in others]
    assert engine.state.iteration == 4
    reported = [name if name != case else "failure" for name in ward.names]
    assert ward.of("report") == [f"report {name}" for name in reported]


def test_an_error_that_ends_the_run_ends_it_with_its_own_words(ward, tmp_path):
    ward.on["report b"] = fail(OutputError("output folder must have space, it is full."))
    with pytest.raises(OutputError, match=r"^output folder must have space, it is full\.$"):
        ward.run(tmp_path)
    assert ward.of("written") == ["written a", "written b"]
    assert "predict d" not in ward.events


def test_an_error_of_the_loader_ends_the_run_where_it_stands(ward, tmp_path):
    engine = ward.evaluator()
    engine.data_loader = DataLoader(engine.data_loader.dataset, collate_fn=fail_on("c"))
    with pytest.raises(ValueError, match="no batch"):
        ward.run(tmp_path, engine)
    assert ward.of("written") == ["written a", "written b"]


def test_an_interrupted_prediction_lets_the_case_that_is_written_end(ward, tmp_path):
    is_interrupted = threading.Event()

    def interrupt() -> None:
        is_interrupted.set()
        raise KeyboardInterrupt

    ward.on["predict c"] = interrupt
    ward.on["write b"] = lambda: wait_for(is_interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"^2 of 4 cases are done\. The same command goes"):
        ward.run(tmp_path)
    assert ward.of("written", "report") == ["written a", "report a", "written b", "report b"]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own answer to Ctrl-C, which a process in the background of a shell ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_a_signal_never_falls_into_a_case_that_is_written(ward, tmp_path):
    """The main thread waits for the last case, and takes Ctrl-C when that is done."""
    ward.on["write d"] = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"^4 of 4 cases are done\."):
        ward.run(tmp_path)
    assert ward.of("report")[-1] == "report d"


def test_a_handler_may_end_the_run(ward, tmp_path):
    engine = ward.evaluator()
    ward.on["report b"] = engine.terminate
    ward.run(tmp_path, engine)
    assert ward.of("written") == ["written a", "written b"]
    assert "predict d" not in ward.events


def test_an_evaluator_can_run_again(ward, tmp_path):
    engine = ward.evaluator()
    for _ in range(2):
        ward.events.clear()
        ward.run(tmp_path, engine)
        assert ward.of("report") == [f"report {case}" for case in "abcd"]


def test_a_single_case_needs_no_second_thread(tmp_path):
    ward, threads = Ward("a"), []
    for event in ("predict a", "write a", "report a"):
        ward.on[event] = lambda: threads.append(threading.current_thread())
    ward.run(tmp_path)
    assert set(threads) == {threading.current_thread()}


def test_a_case_of_many_voxels_has_the_memory_alone(ward, tmp_path, monkeypatch):
    monkeypatch.setattr(grata_monai.evaluator, "LARGEST_WHOLE", 4 * 2 * 4 * 4 - 1)
    ward.run(tmp_path)
    expected = [f"{what} {case}" for case in "abcd" for what in ("predict", "write", "report")]
    assert ward.of("predict", "write", "report") == expected


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_writer_computes_as_the_caller_does(ward, tmp_path, mode):
    found = []

    def look() -> None:
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        found.append((*modes, torch.get_num_threads(), torch.get_default_dtype()))

    ward.on["write a"] = look
    with mode():
        look()
        ward.run(tmp_path)
    assert found[0] == found[1]


def test_a_network_that_trains_predicts_in_evaluation_mode_and_trains_on(ward, tmp_path):
    engine, modes = ward.evaluator(), []
    engine.network.train()
    for case in "abcd":
        ward.on[f"predicted {case}"] = lambda: modes.append(engine.network.training)
    ward.run(tmp_path, engine)
    assert modes == [False] * 4
    assert engine.network.training


def test_the_writer_gets_what_has_left_the_device(ward, tmp_path, device):
    ward.run(tmp_path, ward.evaluator(device=device))
    assert ward.of("written") == [f"written {case}" for case in "abcd"]


def test_what_waits_leaves_the_device_with_its_meta_data(device):
    kept = torch.arange(4.0, device=device)
    pred = MetaTensor(torch.ones(1, 2, 4, device=device), meta={"grata_maps": kept, "grata": "{}"})
    moved = _to_cpu({"pred": pred, "case": ["a"]})
    assert moved["pred"].device.type == moved["pred"].meta["grata_maps"].device.type == "cpu"
    assert torch.equal(moved["pred"], pred.cpu())
    assert moved["pred"].meta["grata"] == "{}"
    assert moved["case"] == ["a"]
    assert pred.meta["grata_maps"] is kept
