"""Methods meet the same cases in the same way; a killed run goes on where it was."""

import json
import math
import os
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_bench import BUNDLE, TINY

from grata_monai.adapt.method import Method, State
from grata_monai.adapt.network import copy_network
from grata_monai.cli import main
from grata_monai.core.errors import AdaptationError
from grata_monai.experiments.calibrate.search import shift_bench
from grata_monai.experiments.compare.report import write_report
from grata_monai.experiments.harness import run as module
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.key import digest_case
from grata_monai.experiments.harness.opening import open_bench
from grata_monai.experiments.harness.progress import show_progress
from grata_monai.experiments.harness.run import Row, read_rows, run_methods
from grata_monai.methods.registry import System, make_systems
from grata_monai.methods.source import Source

pytestmark = pytest.mark.slow


@dataclass(kw_only=True)
class Count(State):
    """How many cases were seen."""

    seen: int = 0


@dataclass(frozen=True)
class Counting(Method):
    """Predicts as the source does, and remembers how many cases it has seen."""

    is_online: bool = False
    fails_on_seed: int = -1
    offset: float = 0.0
    name: ClassVar[str] = "counting"

    def start(self, network, episode):
        return Count(episode=episode, network=copy_network(network), is_foreign=True)

    def predict(self, state, images):
        state.seen += 1
        if state.episode.recipe.seed == self.fails_on_seed:
            raise AdaptationError("loss must be finite, it is not. Use a smaller rate.")
        odds = torch.tensor([0, self.offset]).view(1, 2, 1, 1, 1)
        return state.episode.source + odds + 0 * state.seen


class Refusing(Counting):
    """Refuses every network."""

    def unsupported(self, network):
        return "needs another network"


def test_the_source_scores_as_the_bundles_own_evaluation_does(bench, cases, repository, tmp_path):
    from monai.bundle import ConfigWorkflow

    (row,) = run_methods(make_systems(["source"]), cases[:1], bench, tmp_path / "rows")
    workflow = ConfigWorkflow(
        [str(repository / "bundle/configs" / f"{n}.json") for n in ("inference", "evaluate")],
        workflow_type="infer",
        logging_file=False,
        dataset_dir=str(cases[0]["image"]).rsplit("/images/", maxsplit=1)[0],
        only=[cases[0]["case"]],
        output_dir=str(tmp_path / "out"),
        recipe="source",
        **TINY,
    )
    workflow.initialize()
    workflow.run()
    _, line = (tmp_path / "out" / "evaluation.csv").read_text().splitlines()
    assert row.dice == pytest.approx(float(line.split(",")[2]), abs=1e-4)
    assert row.dice > 0
    assert row.seconds > 0


def test_a_row_says_how_far_the_prediction_is_from_the_sources(bench, cases, tmp_path):
    (row,) = run_methods({"moved": System(Counting(offset=2.0))}, cases[:1], bench, tmp_path)
    prepared = bench.prepare(cases[0])
    with torch.no_grad():
        logits = prepared.episode.predict(prepared.episode.images, bench.network).float()
    odds = logits[:, 1] - logits[:, 0]
    change = (odds + 2).sigmoid() - odds.sigmoid()
    assert row.change == pytest.approx(float(change.max()), rel=1e-3)
    assert row.relabelled == int(((odds > -2) & (odds <= 0)).sum()) > 0
    assert row.reason == ""


def test_every_method_has_a_row_for_every_case(bench, cases, tmp_path):
    methods = {
        "source": System(Source()),
        "counting": System(Counting()),
        "refusing": System(Refusing()),
    }
    rows = list(run_methods(methods, cases, bench, tmp_path))
    assert [(r.method, r.case) for r in rows] == [(m, c["case"]) for c in cases for m in methods]
    by_name = {name: [r for r in rows if r.method == name] for name in methods}
    assert [r.dice for r in by_name["counting"]] == [r.dice for r in by_name["source"]]
    assert {r.reason for r in by_name["source"]} == {"the recipe takes no step"}
    assert {(r.change, r.relabelled) for r in by_name["counting"]} == {(0.0, 0.0)}
    assert {r.refusal for r in by_name["refusing"]} == {"needs another network"}
    assert {json.dumps(r.settings) for r in by_name["counting"]} == {
        json.dumps({"is_online": False, "fails_on_seed": -1, "offset": 0.0})
    }
    assert sorted(map(repr, read_rows(tmp_path))) == sorted(map(repr, rows))


def test_a_failure_is_a_row_that_says_why_and_the_rest_goes_on(bench, cases, tmp_path):
    seed = bench.prepare(cases[0]).episode.recipe.seed
    system = System(Counting(is_online=True, fails_on_seed=seed))
    first, second = run_methods({"c": system}, cases, bench, tmp_path)
    assert first.refusal.startswith("loss must be finite")
    assert second.refusal == ""


def test_what_is_done_is_not_done_again(bench, cases, tmp_path, monkeypatch):
    runs: Any = run_methods({"c": System(Counting())}, cases, bench, tmp_path)
    done = next(runs)
    runs.close()  # killed
    met = []
    monkeypatch.setattr(
        Counting, "predict", lambda _, state, __: met.append(1) or state.episode.source
    )
    rows = list(run_methods({"c": System(Counting())}, cases, bench, tmp_path))
    assert repr(rows[0]) == repr(done)  # NaN differs from itself
    assert len(met) == 1
    monkeypatch.setattr(Counting, "form", 2)
    list(run_methods({"c": System(Counting())}, cases, bench, tmp_path))
    assert len(met) == 3  # rows of another form do not count


def test_an_online_method_meets_all_cases_again_after_a_kill(bench, cases, tmp_path, monkeypatch):
    system = System(Counting(is_online=True))
    runs: Any = run_methods({"c": system}, cases, bench, tmp_path)
    next(runs)
    runs.close()
    seen = []
    original = Counting.predict

    def look(self, state, images):
        logits = original(self, state, images)
        seen.append(state.seen)
        return logits

    monkeypatch.setattr(Counting, "predict", look)
    assert len(list(run_methods({"c": system}, cases, bench, tmp_path))) == 2
    assert seen == [1, 2]


@pytest.fixture
def table(bench, cases, tmp_path, monkeypatch):
    """Two methods over copies of the cases; ``compute`` names the rows that were not there."""
    monkeypatch.setattr(Bench, "prepare", lambda *_, **__: None)
    monkeypatch.setattr(
        module, "_run", lambda name, _, case, *more: Row(name, case["case"], "north", dice=0.5)
    )
    mine = []
    for case in cases:
        copies = {key: tmp_path / f"{key}_{case['case']}.nii.gz" for key in ("image", "label")}
        for key, path in copies.items():
            path.write_bytes(Path(case[key]).read_bytes())
        mine.append({**case, **{key: str(path) for key, path in copies.items()}})
    methods = {"c": System(Counting()), "online": System(Counting(is_online=True))}

    def compute(*, cases=mine, methods=methods, bench=bench, seed=0):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("rows/*/*.json")}
        list(run_methods(methods, cases, bench, tmp_path, seed=seed))
        after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("rows/*/*.json")}
        names = [path for path, time in after.items() if before.get(path) != time]
        return sorted(f"{path.parent.name}/{path.stem}" for path in names)

    assert compute() == ["c/case3", "c/case4", "online/case3", "online/case4"]
    return SimpleNamespace(compute=compute, cases=mine, methods=methods, rows=tmp_path / "rows")


@pytest.mark.parametrize("key", ["image", "label"])
def test_a_changed_image_or_label_makes_its_rows_anew(key, table):
    assert table.compute() == []
    one, two = (Path(case[key]) for case in table.cases)
    two.write_bytes(one.read_bytes())
    assert table.compute() == ["c/case4", "online/case3", "online/case4"]
    assert table.compute() == []


def test_a_setting_of_a_method_makes_its_rows_anew(table):
    changed = {**table.methods, "c": System(Counting(fails_on_seed=7))}
    assert table.compute(methods=changed) == ["c/case3", "c/case4"]


@pytest.mark.parametrize("change", ["seed", "bench"])
def test_what_decides_all_rows_makes_all_anew(change, bench, table):
    changed = {"seed": 1, "bench": replace(bench, fingerprint="another bundle")}
    assert len(table.compute(**{change: changed[change]})) == 4
    assert len(table.compute()) == 4


def test_an_online_method_that_meets_other_cases_first_starts_again(table):
    assert table.compute(cases=table.cases[::-1]) == ["online/case3", "online/case4"]


def test_a_bench_of_other_weights_settings_precision_or_shift_is_another(bench, tmp_path):
    network = copy_network(bench.network)
    next(iter(network.parameters())).data += 1
    torch.save(network.state_dict(), tmp_path / "other.pt")
    changes = [{}, {"network#weights": str(tmp_path / "other.pt")}, {"precision": "bf16"}]
    changes += [{"overlap": 0.5}]
    found = [open_bench(BUNDLE, settings={**TINY, **more}).fingerprint for more in changes]
    assert len({*found, shift_bench(bench, "gamma_low").fingerprint}) == 5
    assert found[0] == bench.fingerprint


def test_the_voxels_that_a_header_names_count_too(tmp_path):
    header, voxels = tmp_path / "a.mhd", tmp_path / "other.raw"
    header.write_bytes(b"ElementDataFile = other.raw\n")
    voxels.write_bytes(b"1")
    case = {"image": str(header), "label": str(header)}
    one = digest_case(case)
    (tmp_path / "b.raw").write_bytes(b"2")
    assert digest_case(case) == one
    voxels.write_bytes(b"2")
    assert digest_case(case) != one


@pytest.mark.parametrize("content", ["", '{"method": "c", "ca', "[1]", '{"who": 1}', "\udcff"])
def test_a_row_that_is_none_is_made_anew_and_named(content, table, caplog):
    broken = table.rows / "c" / "case4.json"
    broken.write_bytes(os.fsencode(content))
    assert len(read_rows(table.rows.parent)) == 3
    assert "rows/c/case4.json is no row" in caplog.text
    assert table.compute() == ["c/case4"]


def test_rows_hold_null_where_there_is_no_number(table):
    path = table.rows / "c" / "case4.json"
    row = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert row["cosine"] is None
    assert (row["method"], row["case"], row["light"]) == ("c", "case4", "")
    (read,) = (r for r in read_rows(table.rows.parent) if (r.method, r.case) == ("c", "case4"))
    assert math.isnan(read.cosine)
    assert read.dice == row["dice"]


def test_a_name_that_is_no_text_has_its_rows_and_its_report(bench, table, tmp_path):
    odd = os.fsdecode(b"M\xfcller")
    given = [{**table.cases[0], "case": odd, "centre": odd}]
    rows = run_methods({"source": System(Source())}, given, bench, tmp_path / "odd")
    shown = show_progress(rows, total=1, console=Console(file=StringIO()))
    write_report(shown, tmp_path / "odd")
    assert r"M\udcfcller" in (tmp_path / "odd" / "rows.csv").read_text("utf-8")
    assert [row.case for row in read_rows(tmp_path / "odd")] == [odd]


def test_ctrl_c_says_how_many_rows_are_done(table):
    def rows():
        yield from read_rows(table.rows.parent)[:2]
        raise KeyboardInterrupt

    with pytest.raises(
        KeyboardInterrupt, match=r"^2 of 5 rows are done\. The same command goes on"
    ):
        show_progress(rows(), total=5, console=Console(file=StringIO()))


def test_a_case_gets_the_same_seed_whatever_came_before(bench, cases):
    one, two = (bench.prepare(case, seed=5).episode.recipe.seed for case in cases)
    assert bench.prepare(cases[1], seed=5).episode.recipe.seed == two != one
    assert bench.prepare(cases[1], seed=6).episode.recipe.seed != two


def test_the_network_stays_as_it_was(bench, cases, tmp_path):
    before = {key: value.clone() for key, value in bench.network.state_dict().items()}
    list(run_methods(make_systems(["memo", "tipi"]), cases[:1], bench, tmp_path))
    after = bench.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_an_unknown_method_gets_the_nearest_name():
    with pytest.raises(ValueError, match=r"got 'mem0'. Did you mean 'memo'\?"):
        make_systems(["mem0"])
    assert next(iter(make_systems(["memo"]))) == "source"


def run_main(repository, folder, out, *more):
    places = ["--network", str(repository / "bundle"), "--out", str(out)]
    return main(["compare", *more, *places, "--methods", "source"])


def test_the_command_refuses_cases_that_it_cannot_pair(repository, folder, tmp_path, capsys):
    assert run_main(repository, folder, tmp_path) == 2
    assert "cases must be given as --images and --labels" in capsys.readouterr().err
    assert run_main(repository, folder, tmp_path, "--images", str(folder / "images")) == 2
    assert "must both be given" in capsys.readouterr().err
    twice = [f"--cases=a={folder}", f"--cases=b={folder}"]
    assert run_main(repository, folder, tmp_path, *twice) == 2
    assert "names of cases must differ" in capsys.readouterr().err
    (tmp_path / "labels").mkdir()
    pair = ["--images", str(folder / "images"), "--labels", str(tmp_path / "labels")]
    assert run_main(repository, folder, tmp_path, *pair) == 2
    assert "every image must have a label of its name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "labels"]


def test_the_command_writes_a_report(repository, folder, tmp_path, capsys, monkeypatch):
    from grata_monai.experiments.harness import opening

    original = opening.open_bench
    monkeypatch.setattr(
        opening,
        "open_bench",
        lambda path, *, settings, **more: original(path, settings={**settings, **TINY}, **more),
    )
    assert run_main(repository, folder, tmp_path / "out", f"--cases=north={folder}") == 0
    assert "| source | 2 |" in capsys.readouterr().out
    assert {row.centre for row in read_rows(tmp_path / "out")} == {"north"}
    assert np.isfinite([row.dice for row in read_rows(tmp_path / "out")]).all()
