"""How many instances a series has, as peers of any kind say; and which series are new."""

import json

import pytest
from archive import SERIES, listed
from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
)

from grata_monai.core.errors import TransferError
from grata_monai.transfer.address import parse_address
from grata_monai.transfer.find import MOST_ANSWERS, count_instances, list_series
from grata_monai.transfer.retry import Retry
from grata_monai.transfer.security import Security

ONCE = Retry(attempts=1, connect_seconds=10, answer_seconds=10)
STUDY, INSTANCE = "0020000D", "00080018"
PENDING, DONE = 0xFF00, 0x0000


def count(address, study="1.2.3", series="1.2.3.4"):
    return count_instances(parse_address(address), study, series, security=Security(), retry=ONCE)


@pytest.fixture
def ask(start_peer):
    """Ask a peer by C-FIND whose answers a test makes; gives the count."""

    def ask(answer):
        peer = start_peer(
            kinds=[(StudyRootQueryRetrieveInformationModelFind, None)],
            handlers=[(evt.EVT_C_FIND, answer)],
        )
        return count(peer.address)

    return ask


def say(*numbers, end=DONE):
    """Answer with these numbers of instances, byte by byte as they are."""

    def answer(event):
        for number in numbers:
            found = Dataset()
            found.QueryRetrieveLevel = "SERIES"
            if number is not None:
                found.add_new("NumberOfSeriesRelatedInstances", "LO", number)  # any text at all
            yield PENDING, found
        yield end, None

    return answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (say("8"), 8),
        (say("7", "9", "8"), 9),
        (say(), 0),
        (say(None), 0),
        (say(""), 0),
        (say("JANE DOE"), 0),
        (say("-8"), 0),
        (say("1e400"), 0),
        (say("8" * 60), 0),
        (say("8\\9"), 0),
        (say("JANE", "5"), 5),
        (say("8", end=0xA700), 8),
        (say(end=0xC000), 0),
        (say(*["8"] * MOST_ANSWERS, "9"), 8),
    ],
)
@pytest.mark.filterwarnings("ignore")  # pydicom's, of values that are none
def test_the_largest_number_that_is_one_counts(ask, answer, expected, caplog):
    assert ask(answer) == expected
    assert "JANE" not in caplog.text


def test_a_peer_that_aborts_has_counted_nothing(ask):
    def answer(event):
        event.assoc.abort()
        yield DONE, None

    assert ask(answer) == 0


def test_instances_that_a_service_lists_are_counted(start_web, replies):
    def answer(request):
        is_first = "offset" not in request.path
        return replies.json(listed(INSTANCE, "1.2.1", "1.2.2") if is_first else [])

    assert count(start_web(answer).address) == 2


@pytest.mark.parametrize(
    "body", [b"<p>JANE", b"7", b"[[]]", json.dumps(listed(SERIES, "1.2")).encode()]
)
def test_a_list_of_something_else_is_refused(start_web, replies, body):
    with pytest.raises(TransferError, match="must list valid UIDs, it lists something else"):
        count(start_web(lambda _: replies.Reply(200, body)).address)


@pytest.mark.parametrize("uid", ["../../admin?x=", "JANE^DOE", "", "1." + "2" * 63])
def test_what_is_no_uid_is_never_part_of_a_question(start_web, replies, uid):
    web = start_web(lambda _: replies.json([]))
    for asked in ({"study": uid}, {"series": uid}):
        with pytest.raises(ValueError, match="must be a UID"):
            count(web.address, **asked)
    assert web.requests == []


def found(start_web, replies, number, study="1.2.3"):
    """What `list_series` finds at a service that counts so many instances in its one series."""
    item = {SERIES: {"Value": ["1.2.3.4"]}, "00201209": {"Value": [number]}}

    def answer(request):
        if "offset" in request.path:
            return replies.json([])
        return replies.json([item] if "/series" in request.path else listed(STUDY, study))

    web = start_web(answer)
    asked = list_series(
        parse_address(web.address),
        dates="20260101-",
        modality="MR",
        security=Security(),
        retry=ONCE,
    )
    return [(each.study_uid, each.series_uid, each.instances) for each in asked]


@pytest.mark.parametrize(("number", "expected"), [(8, 8), (float("inf"), 0), (-8, 0), ("JANE", 0)])
def test_series_that_a_service_has_are_found(start_web, replies, number, expected):
    assert found(start_web, replies, number) == [("1.2.3", "1.2.3.4", expected)]


def test_a_study_that_is_a_path_is_refused(start_web, replies):
    with pytest.raises(TransferError, match="must list valid UIDs"):
        found(start_web, replies, 8, study="../../admin")
