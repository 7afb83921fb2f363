"""The service as a whole: from a real sender to a real archive, on PostgreSQL, under fire."""

import json
import shutil
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import under_fire
from hospital import TITLE, free_port, make_series
from orthanc import is_installed, running_orthanc
from postgres import find_server, running_postgres
from replay import Replay, run_week, wait_until

from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import SeriesOptions, write_series
from grata_monai.service.config import read_config
from grata_monai.service.intake import Intake
from grata_monai.service.ledger import ENDS, Ledger, State
from grata_monai.service.sources import Puller
from grata_monai.service.spool import Spool
from grata_monai.service.work import deliver
from grata_monai.transfer.exchange import send

pytestmark = [
    pytest.mark.slow,
    # a sender's pynetdicom leaves the socket of a refused connection open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
WAIT = 240.0  # seconds; ends a test that hangs, says nothing about speed
NO_ORTHANC = "no Orthanc (apt-get install orthanc orthanc-dicomweb)"
NO_POSTGRES = "no PostgreSQL (apt-get install postgresql)"


@pytest.fixture
def phantom(tmp_path):
    """A small MR series on disk."""
    case = make_case(0, spacing=(4.0, 4.0, 6.0), spatial_shape=(32, 32, 8))
    image = np.asarray(case.image).reshape(32, 32, 8)
    image = np.round(1000 * (image - image.min()) / np.ptp(image)).astype(np.int16)
    options = SeriesOptions(seed=21)
    (tmp_path / "phantom").mkdir()
    return write_series(tmp_path / "phantom", image, np.asarray(case.affine_ras), options=options)


def post(server, path, content, method="POST"):
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.http_port}/{path}", json.dumps(content).encode(), method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"{}")


ORTHANC = """folder = "service"
[dicom]
address = "127.0.0.1:{port}"
peers = ["ORTHANC"]
[[routes]]
called = "GRATA"
destination = "archive"
recipe = "source"
settings = {{ report = false, spacing = [4.0, 4.0, 6.0], roi_size = [32, 32, 8] }}
[[destinations]]
name = "archive"
address = "{store}"
commitment = true
reply = "127.0.0.1:{reply}"
[completeness]
count = "{count}"
count_seconds = 0.5
[limits]
free_gib = 0.1
drain_seconds = 20
[web]
address = "127.0.0.1:{web}"
[[pull]]
source = "{dicomweb}"
called = "GRATA"
days = 36500
"""


@pytest.mark.skipif(not is_installed(), reason=NO_ORTHANC)
def test_a_series_goes_from_a_real_sender_to_a_real_archive(phantom, tmp_path):
    with running_orthanc(tmp_path) as pacs:
        port, path = free_port(), tmp_path / "service.toml"
        content = ORTHANC.format(
            port=port,
            web=free_port(),
            store=pacs.store_address,
            reply=pacs.reply_port,
            count=pacs.store_address,
            dicomweb=pacs.web_address,
        )
        path.write_text(content.partition("[[pull]]")[0])
        send(phantom, pacs.store_address)
        modality = {"AET": TITLE, "Host": "127.0.0.1", "Port": port}
        post(pacs, "modalities/service", modality, "PUT")
        ledger = Ledger(read_config(path))
        with (tmp_path / "log").open("w") as log:
            command = [sys.executable, "-W", "ignore", "-m", "grata_monai", "serve"]
            service = subprocess.Popen([*command, "--config", str(path)], stderr=log)
        try:
            (series,) = pacs.ask("series")
            assert wait_until(lambda: _is_sent(pacs, series), WAIT)
            ended = wait_until(lambda: any(r.state in ENDS for r in ledger.find()), WAIT)
            assert ended, (tmp_path / "log").read_text()
            (row,) = ledger.find()
            assert (row.state, row.instances, row.expected) == ("delivered", 8, 8)
            instances = pacs.ask("statistics")["CountInstances"]
            assert instances == 9  # the images and one segmentation
        finally:
            service.terminate()
            status = service.wait(timeout=WAIT)
        assert status == 0
        _pull(content, path, pacs)


def _is_sent(pacs, series):
    try:
        return post(pacs, "modalities/service/store", series) is not None
    except OSError:
        return False


def _pull(content, path, pacs):
    """Pull by DICOMweb what is there, each series once."""
    path.write_text(content.replace('"service"', '"pulled"'))
    config = read_config(path)
    ledger = Ledger(config)
    intake = Intake(config, ledger, Spool(config.folder))
    for _ in range(2):
        Puller(config.pull[0], intake).look()
    (closed,) = intake.close_complete()
    assert (closed.instances, closed.expected) == (8, 8)
    intake.headers.close()
    ledger.close()


@pytest.mark.skipif(find_server() is None, reason=NO_POSTGRES)
def test_on_postgresql_a_killed_service_goes_on_and_a_drain_ends_it(tmp_path):
    with running_postgres() as url:
        replay = Replay(tmp_path, root=f'database = "{url}"')
        try:
            replay.start()
            sent = [make_series(number) for number in range(3)]
            replay.send(*sent)
            assert wait_until(replay.is_done, WAIT), replay.log.read_text()
            sent.append(make_series(3))
            replay.send(sent[-1])
            replay.process.kill()
            replay.process.wait()
            replay.start()
            assert wait_until(replay.is_done, WAIT), replay.log.read_text()
            assert replay.judge(sent, 0).faults == {}
            replay.ledger.write_setting("mode", "drain")
            assert replay.process.wait(timeout=WAIT) == 0
        finally:
            replay.close()


@pytest.mark.timeout(1200)
def test_under_fire_nothing_is_lost_and_nothing_twice(tmp_path):
    report = run_week(tmp_path, 200, limit_seconds=700, ending_seconds=300)
    assert report.faults == {}
    assert report.boundaries_missed == set()
    assert sum(report.ends.values()) == 200


def test_what_was_backed_up_goes_on_also_without_its_queue_and_under_an_older_version(tmp_path):
    replay = Replay(tmp_path)
    try:
        replay.peers.close_archive()
        replay.start()
        sent = [make_series(number) for number in range(2)]
        replay.send(*sent)
        folder, copy = replay.config.folder, tmp_path / "copy"
        wanted = {("segmented",): 2}
        is_there = wait_until(lambda: replay.ledger.count("state") == wanted, WAIT)
        assert is_there, replay.log.read_text()
        assert replay.stop() == 0
        replay.ledger.write_setting("version", "9.9.9")
        replay.ledger.close()
        shutil.copytree(folder, copy)
        shutil.rmtree(folder)
        shutil.copytree(copy, folder, ignore=shutil.ignore_patterns("queue.sqlite*"))
        replay.peers.open_archive()
        replay.start()
        assert wait_until(replay.is_done, WAIT), replay.log.read_text()
        assert replay.judge(sent, 0).faults == {}
        log = "".join(file.read_text() for file in (folder / "audit").iterdir())
        assert '"before": "9.9.9"' in log
    finally:
        replay.close()


@pytest.mark.skipif(not is_installed(), reason=NO_ORTHANC)
def test_results_are_delivered_by_stow_to_a_real_archive(write_config, tmp_path):
    with running_orthanc(tmp_path) as pacs:
        stow = f'[[destinations]]\nname = "web"\naddress = "{pacs.web_address}"'
        config = read_config(write_config(rest=stow))
        ledger, spool, series = Ledger(config), Spool(config.folder), make_series(0)
        spool.series(series.key).mkdir()
        for number, each in enumerate(series.instances):
            each.save_as(spool.series(series.key) / f"{number}.dcm", enforce_file_format=True)
        row = ledger.receive(series.key, called=TITLE, rule='{"destination": "web"}')
        under_fire._Stub(config, spool).run(row)
        ledger.move(row, State.SEGMENTED, job=1)
        for _ in range(2):  # a job that is done twice
            assert deliver(config, ledger, spool, series.key, 1, 1) is None
        assert ledger.get(series.key).state == "delivered"
        assert pacs.ask("statistics")["CountInstances"] == 1
        ledger.close()


def test_an_upgrade_queues_open_cases_again_and_says_so(tmp_path):
    replay = Replay(tmp_path)
    try:
        replay.start()
        series = make_series(0)
        replay.send(series)
        replay.process.kill()
        replay.process.wait()
        replay.ledger.write_setting("version", "0.0.1")
        replay.start()
        assert wait_until(replay.is_done, WAIT), replay.log.read_text()
        assert replay.judge([series], 0).faults == {}
        assert replay.stop() == 0
        log = "".join(file.read_text() for file in (replay.config.folder / "audit").iterdir())
        assert '"before": "0.0.1"' in log
    finally:
        replay.close()
