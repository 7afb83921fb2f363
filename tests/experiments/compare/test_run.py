"""Methods meet the same cases in the same way; a killed run goes on where it was."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tiny_bench import TINY

from grata_monai.adapt.method import Method, State
from grata_monai.adapt.network import copy_network
from grata_monai.cli import main
from grata_monai.core.errors import AdaptationError
from grata_monai.experiments.harness.run import read_rows, run_methods
from grata_monai.methods.registry import System, make_systems
from grata_monai.methods.source import Source


@dataclass(kw_only=True)
class Count(State):
    """How many cases were seen."""

    seen: int = 0


@dataclass(frozen=True)
class Counting(Method):
    """Predicts as the source does, and remembers how many cases it has seen."""

    is_online: bool = False
    fails_on_seed: int = -1
    name: ClassVar[str] = "counting"

    def start(self, network, episode):
        return Count(episode=episode, network=copy_network(network), is_foreign=True)

    def predict(self, state, images):
        state.seen += 1
        if state.episode.recipe.seed == self.fails_on_seed:
            raise AdaptationError("loss must be finite, it is not. Use a smaller rate.")
        return state.episode.source + 0 * state.seen


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
    assert {r.refusal for r in by_name["refusing"]} == {"needs another network"}
    assert {json.dumps(r.settings) for r in by_name["counting"]} == {
        json.dumps({"is_online": False, "fails_on_seed": -1})
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
    from grata_monai.experiments.harness import bench as module

    original = module.open_bench
    monkeypatch.setattr(
        module,
        "open_bench",
        lambda path, *, settings, **more: original(path, settings={**settings, **TINY}, **more),
    )
    assert run_main(repository, folder, tmp_path / "out", f"--cases=north={folder}") == 0
    assert "| source | 2 |" in capsys.readouterr().out
    assert {row.centre for row in read_rows(tmp_path / "out")} == {"north"}
    assert np.isfinite([row.dice for row in read_rows(tmp_path / "out")]).all()
