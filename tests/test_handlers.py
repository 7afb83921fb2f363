"""GraTaHandler reports every case, in plain ignite engines and in MONAI's."""

import logging
import os
import re
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset, MetaTensor, ThreadDataLoader
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.inferers import SimpleInferer
from monai.networks.nets import UNet
from rich.console import Console

from grata_monai import GraTaHandler, GraTaInferer, Record
from grata_monai.core.errors import CaseError, IntensityError, OutputError
from grata_monai.core.failures import CaseFailure
from grata_monai.handlers import (
    raise_if_any_failed,
    report_failure,
    segment_or_report,
)
from grata_monai.read.dataset import CaseDataset, collate_cases

RECIPE = {
    "base": "clinical",
    "focus_views": [],
    "steps": 2,
    "min_cosine": None,
    "base_rate": 1e-6,
    "prediction_views": ["identity"],
}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return UNet(2, 1, 2, (4, 8), (2,), norm="batch").eval()


@pytest.fixture(scope="module")
def pred(network) -> MetaTensor:
    return predict(network, "a.nii.gz")


@pytest.fixture
def screen() -> Console:
    return Console(file=StringIO(), width=100)


def predict(network: torch.nn.Module, name: str) -> MetaTensor:
    image = MetaTensor(torch.rand(1, 1, 16, 16), meta={"filename_or_obj": f"/somewhere/{name}"})
    return GraTaInferer(SimpleInferer(), RECIPE)(image, network)


def text_of(screen: Console) -> str:
    assert isinstance(screen.file, StringIO)
    return screen.file.getvalue()


def image_dataset(names: str) -> list[dict]:
    return [
        {"image": MetaTensor(torch.rand(1, 16, 16), meta={"filename_or_obj": f"{name}.nii.gz"})}
        for name in names
    ]


def evaluator(network: torch.nn.Module, data, handler, **settings) -> SupervisedEvaluator:
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=ThreadDataLoader(data, batch_size=1, num_workers=0, **settings),
        network=network,
        inferer=GraTaInferer(SimpleInferer(), RECIPE),
        val_handlers=[handler],
        iteration_update=segment_or_report if "collate_fn" in settings else None,
    )


# ------------------------------------------------------------------------------- ignite


@pytest.mark.parametrize("wrap", [lambda pred: pred, lambda pred: {"pred": pred}])
def test_an_ignite_engine_logs_and_tabulates_its_predictions(wrap, pred, screen, caplog):
    engine: Any = Engine(lambda _engine, _batch: wrap(pred))
    GraTaHandler(console=screen).attach(engine)
    with caplog.at_level(logging.INFO, "grata_monai.handlers"):
        state = engine.run([0, 1])
    assert [case for case, _ in state.grata] == ["a", "a"]
    assert "a: Adapted to this case in 2 steps; " in caplog.text
    assert "2/2" in text_of(screen)
    assert len(re.findall(r"a +adapted +none +- +2 ", text_of(screen))) == 2


@pytest.mark.parametrize("is_calibrated", [None, True, False])
def test_a_guard_that_nobody_calibrated_for_this_network_is_told(is_calibrated, network, screen):
    pred = predict(network, "a.nii.gz")
    record = Record.from_json(pred.meta["grata"])
    verdict = replace(record.verdict, is_calibrated=is_calibrated)
    pred.meta["grata"] = replace(record, verdict=verdict).to_json()
    engine = Engine(lambda _engine, _batch: pred)
    GraTaHandler(console=screen).attach(engine)
    engine.run([0])
    words = " ".join(text_of(screen).split())
    assert ("limits were chosen for another network" in words) == (is_calibrated is False)


def test_a_batch_of_two_gives_two_rows(network, screen):
    image = MetaTensor(torch.rand(2, 1, 16, 16), meta={"filename_or_obj": ["a.nii", "b.nii"]})
    engine: Any = Engine(
        lambda _engine, _batch: GraTaInferer(SimpleInferer(), RECIPE)(image, network)
    )
    GraTaHandler(console=screen).attach(engine)
    assert [case for case, _ in engine.run([0]).grata] == ["a", "b"]


def test_an_output_without_a_record_is_no_row(screen):
    engine: Any = Engine(lambda _engine, _batch: torch.zeros(1, 2, 4, 4))
    GraTaHandler(console=screen).attach(engine)
    assert engine.run([0]).grata == []


def test_records_are_written_beside_each_other(pred, screen, tmp_path):
    engine = Engine(lambda _engine, _batch: pred)
    GraTaHandler(console=screen, record_dir=str(tmp_path / "records")).attach(engine)
    engine.run([0])
    (written,) = (tmp_path / "records").iterdir()
    assert written.name == "a_record.json"
    assert Record.from_json(written.read_text()) == Record.from_json(pred.meta["grata"])


def test_records_of_images_of_equal_name_are_told_apart(pred, screen, tmp_path):
    paths = ["p1/ct.nii.gz", "p2/ct.nii.gz", "p2/ct.nii", "", ""]
    predictions = [MetaTensor(pred.as_tensor(), meta=dict(pred.meta)) for _ in paths]
    for prediction, path in zip(predictions, paths, strict=True):
        prediction.meta["filename_or_obj"] = path
    engine = Engine(lambda _engine, number: predictions[number])
    GraTaHandler(console=screen, record_dir=str(tmp_path)).attach(engine)
    for _ in range(2):
        engine.run(range(len(paths)))
        assert sorted(os.listdir(tmp_path)) == [
            "case_0_2_record.json",
            "case_0_record.json",
            "ct_record.json",
            "p2_ct_2_record.json",
            "p2_ct_record.json",
        ]


def test_an_image_without_meta_data_is_named_by_those_beside_it(pred, screen, tmp_path):
    prediction = MetaTensor(pred.as_tensor(), meta={"grata": pred.meta["grata"]})
    output = {"image_meta_dict": {"filename_or_obj": ["x/old.nii.gz"]}, "pred": prediction}
    engine = Engine(lambda _engine, _batch: output)
    GraTaHandler(console=screen, record_dir=str(tmp_path)).attach(engine)
    engine.run([0])
    assert os.listdir(tmp_path) == ["old_record.json"]


def test_a_case_whose_mask_cannot_be_written_has_no_record(network, screen, tmp_path):
    handler = GraTaHandler(console=screen, record_dir=str(tmp_path))
    data = CaseDataset(image_dataset("a"))
    engine: Any = evaluator(network, data, handler, collate_fn=collate_cases)

    def fail(engine: Engine) -> None:
        raise OSError(28, "No space left on device")

    engine.add_event_handler(IterationEvents.MODEL_COMPLETED, fail)
    engine.run()
    assert [failure.reason for failure in engine.state.failures] == ["OSError"]
    assert os.listdir(tmp_path) == []


def test_a_record_dir_that_cannot_be_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="output folder must be writable"):
        GraTaHandler(record_dir=str(tmp_path / "file" / "records"))


def test_quiet_means_no_bar_and_no_table(pred, screen):
    engine = Engine(lambda _engine, _batch: pred)
    GraTaHandler(console=screen, is_quiet=True).attach(engine)
    engine.run([0])
    assert text_of(screen) == ""


def test_one_handler_serves_many_runs(pred, screen):
    engine: Any = Engine(lambda _engine, _batch: pred)
    GraTaHandler(console=screen).attach(engine)
    assert [len(engine.run([0], max_epochs=1).grata) for _ in range(2)] == [1, 1]


def test_an_error_takes_the_bar_away_and_goes_on(screen):
    def fail(_engine, _batch):
        raise RuntimeError("the scanner is on fire")

    engine = Engine(fail)
    handler = GraTaHandler(console=screen)
    handler.attach(engine)
    with pytest.raises(RuntimeError, match="on fire"):
        engine.run([0])
    assert not handler.progress.live.is_started


def test_long_names_are_neither_folded_nor_cut_off(network):
    screen = Console(file=StringIO(), width=60)
    long = "a_case_of_a_hospital_that_likes_long_names_0123456789"
    pred = predict(network, f"{long}.nii.gz")
    engine = Engine(lambda _engine, _batch: pred)
    GraTaHandler(console=screen).attach(engine)
    failure = CaseFailure(f"{long}_too", "UnreadableImageError", "no image")
    engine.add_event_handler(Events.ITERATION_COMPLETED, report_failure, failure)
    engine.run([0])
    assert f"{long}  " in text_of(screen)
    assert f"{long}_too: failed: UnreadableImageError" in text_of(screen)


def test_a_usual_table_fits_a_terminal_of_80_columns(network):
    screen = Console(file=StringIO(), width=80)
    pred = predict(network, "phantom_endorectal_coil_0000.nii.gz")
    engine = Engine(lambda _engine, _batch: pred)
    GraTaHandler(console=screen).attach(engine)
    engine.run([0])
    assert max(map(len, text_of(screen).splitlines())) <= 80
    assert re.search(r"phantom_endorectal_coil_0000 +adapted", text_of(screen))


# ------------------------------------------------------------------------------- MONAI


def test_a_monai_evaluator_reports_every_case(network, screen, caplog, tmp_path):
    handler = GraTaHandler(console=screen, record_dir=str(tmp_path))
    engine = evaluator(network, Dataset(image_dataset("ab")), handler)
    with caplog.at_level(logging.INFO, "grata_monai.handlers"):
        engine.run()
    assert [case for case, _ in engine.state.grata] == ["a", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_record.json", "b_record.json"]
    assert "b: Adapted to this case in 2 steps; " in caplog.text
    assert "2/2" in text_of(screen)


def test_the_record_of_a_prediction_that_postprocessing_replaces_is_written_and_tabulated(
    network, screen, tmp_path
):
    handler = GraTaHandler(console=screen, record_dir=str(tmp_path))
    engine = evaluator(network, Dataset(image_dataset("a")), handler)
    engine.add_event_handler(IterationEvents.MODEL_COMPLETED, drop_meta_data)
    engine.run()
    assert [case for case, _ in engine.state.grata] == ["a"]
    assert (tmp_path / "a_record.json").is_file()


def drop_meta_data(engine: Engine) -> None:
    for item in engine.state.output:
        item["pred"] = item["pred"].as_tensor()


def test_a_case_is_called_as_its_data_say_not_after_its_file(network, screen):
    """Files of equal name in two folders are cases of different names."""
    data = [{**item, "case": f"{n}_a"} for n, item in enumerate(image_dataset("aa"))]
    handler = GraTaHandler(console=screen)
    engine = evaluator(network, CaseDataset(data), handler, collate_fn=collate_cases)
    engine.run()
    assert [case for case, _ in engine.state.grata] == ["0_a", "1_a"]


def test_a_case_that_fails_is_a_row_and_the_others_go_on(network, screen, caplog):
    def prepare(item):
        if item["case"] == "bad":
            raise IntensityError("voxels must be finite, 'bad.nii' has NaN. Replace them.")
        return item

    data = [{**image_dataset("a")[0], "case": case} for case in ("bad", "good")]
    handler = GraTaHandler(console=screen)
    engine = evaluator(network, CaseDataset(data, prepare), handler, collate_fn=collate_cases)
    engine.run()
    assert [case for case, _ in engine.state.grata] == ["good"]
    assert [failure.case for failure in engine.state.failures] == ["bad"]
    assert "bad: IntensityError: voxels must be finite" in caplog.text
    assert "failed: IntensityError" in text_of(screen)
    assert "2/2" in text_of(screen)


def test_a_case_that_fails_in_the_network_is_reported_too(screen):
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    data = CaseDataset([{**item, "case": "x"} for item in image_dataset("a")])
    handler = GraTaHandler(console=screen)
    engine = evaluator(network, data, handler, collate_fn=collate_cases)
    engine.run()
    (failure,) = engine.state.failures
    assert failure.case == "x"
    assert failure.reason == "RuntimeError"


# ------------------------------------------------------------------------------- the end


def test_a_run_without_failures_ends_quietly():
    raise_if_any_failed(Engine(lambda _engine, _batch: None))


def test_a_run_with_failures_ends_with_all_of_them():
    engine: Any = Engine(lambda _engine, _batch: None)
    engine.state.failures = [
        CaseFailure("a", "GeometryError", ""),
        CaseFailure("b", "KeyError", ""),
    ]
    with pytest.raises(CaseError, match=r"2 failed \(a: GeometryError; b: KeyError\)"):
        raise_if_any_failed(engine)


def test_a_failure_is_logged_with_its_remedy(caplog):
    engine: Any = Engine(lambda _engine, _batch: None)
    report_failure(
        engine, CaseFailure("a", "GeometryError", "affine must be finite. Export again.")
    )
    assert "a: GeometryError: affine must be finite. Export again." in caplog.text
    assert len(engine.state.failures) == 1
