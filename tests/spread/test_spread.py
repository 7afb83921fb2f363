"""Parts of a run, done by several workers: all of them, whoever dies; here, or as jobs."""

import operator
from functools import partial

import pytest
from filelock import FileLock
from postgres import find_server, running_postgres
from spreading import fail, kill_once, refuse, same

from grata_monai.cli import build_parser
from grata_monai.core.errors import NetworkError, OutputError
from grata_monai.spread import Task, Workers, run, spread
from grata_monai.spread.options import read_workers

pytestmark = pytest.mark.slow

SQUARES = [0, 1, 4, 9]
SLURM_HERE = {"cluster": "local", "timeout_min": 5}
NO_POSTGRES = "no PostgreSQL (apt-get install postgresql)"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def killing(tmp_path):
    return Task(partial(same, tmp_path), kill_once, range(4))


def test_a_killed_worker_is_started_again_and_begins_its_part_anew(out, tmp_path):
    assert sorted(spread(killing(tmp_path), out, Workers(2))) == SQUARES
    assert list(out.iterdir()) == []


def test_what_kills_its_worker_again_ends_the_run(out, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "STARTS", 1)
    with pytest.raises(NetworkError, match="Start again with the same --out to go on"):
        list(spread(killing(tmp_path), out, Workers(2)))
    assert list(out.iterdir()) == []


def test_workers_may_be_jobs_of_a_cluster(out):
    task = Task(partial(max, 10), operator.pow, range(4))
    assert sorted(spread(task, out, Workers(2, SLURM_HERE))) == [1, 10, 100, 1000]
    assert list(out.iterdir()) == []


@pytest.mark.skipif(find_server() is None, reason=NO_POSTGRES)
def test_the_queue_may_be_postgresql(out, tmp_path):
    with running_postgres() as url:
        assert sorted(spread(killing(tmp_path), out, Workers(2, queue=url))) == SQUARES


def test_an_error_of_a_part_is_the_error_of_the_run(out):
    with pytest.raises(KeyError, match="0"):
        list(spread(Task(abs, fail, [0]), out, Workers(1)))


def test_what_cannot_be_opened_is_said(out):
    with pytest.raises(ValueError, match="nothing can be opened"):
        list(spread(Task(refuse, fail, [0]), out, Workers(2)))


def test_one_run_at_a_time_has_a_folder(out):
    out.mkdir()
    with FileLock(out / ".workers.lock"), pytest.raises(OutputError, match="one run at a time"):
        list(spread(Task(abs, fail, [0]), out, Workers(2)))


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"cluster": "local", "colour": "red"}, "colour"), ({"timeout_min": 5}, "srun")],
)
def test_a_cluster_that_is_not_there_or_an_unknown_setting_is_refused(out, settings, told):
    with pytest.raises(ValueError, match=f"--slurm must name settings that submitit takes.*{told}"):
        list(spread(Task(abs, fail, [0]), out, Workers(1, settings)))


def test_the_options_say_who_works():
    parse = build_parser().parse_args
    given = ["segment", "in", "out", "--workers", "3", "--slurm", "timeout_min=60", "name=a"]
    assert read_workers(parse(given)) == Workers(3, {"timeout_min": 60, "name": "a"})
    assert read_workers(parse(["segment", "in", "out"])).is_one
    with pytest.raises(ValueError, match="--slurm must have KEY=VALUE, got 'gpu'"):
        read_workers(parse(["segment", "in", "out", "--slurm", "gpu"]))
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        read_workers(parse(["segment", "in", "out", "--workers", "0"]))
    with pytest.raises(ValueError, match="queue must begin with postgresql://"):
        read_workers(parse(["segment", "in", "out", "--queue", "mysql://a"]))
