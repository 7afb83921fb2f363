"""The same content has the same UID, other content has another, and all are valid."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from grata_monai.record.types import OutcomeName
from grata_monai.write.dicom.uids import hash_to_uid, instance_uid, series_uid, tracking_uid


@given(parts=st.lists(st.binary() | st.text(st.characters(codec="utf-8"))))
def test_every_content_has_one_valid_uid(parts):
    uid = hash_to_uid(*parts)
    assert uid == hash_to_uid(*parts)
    assert UID(uid).is_valid
    assert len(uid) <= 64
    assert uid.startswith("2.25.")


@given(one=st.lists(st.binary(max_size=3)), two=st.lists(st.binary(max_size=3)))
def test_borders_between_parts_count(one, two):
    assert (hash_to_uid(*one) == hash_to_uid(*two)) == (one == two)


def test_an_instance_depends_on_all_that_makes_it(make_volume, masks, record):
    volume = make_volume()
    given = {"volume": volume, "record": record, "arrays": [masks], "settings": ["x"]}
    changes = [
        {},
        {"volume": replace(volume, frames=volume.frames[1:])},
        {"volume": replace(volume, frames=volume.frames[::-1])},
        {"record": replace(record, outcome=OutcomeName.SOURCE)},
        {"arrays": [masks[::-1]]},
        {"arrays": [masks.astype(np.uint16)]},
        {"arrays": [masks.reshape(-1)]},
        {"settings": ["y"]},
    ]
    uids = [instance_uid("a", **{**given, **change}) for change in changes]
    assert len({*uids, instance_uid("b", **given)}) == len(uids) + 1
    assert instance_uid("a", **given) == uids[0]


def test_an_instance_does_not_depend_on_time(make_volume, record):
    volume = make_volume()
    later = replace(record, seconds={"adaptation": 99.0})
    one, two = (instance_uid("a", volume=volume, record=r) for r in (record, later))
    assert one == two


def test_a_segment_is_tracked_from_run_to_run(make_volume):
    volume = make_volume()
    assert tracking_uid(volume, 1, "1") == tracking_uid(volume, 1, "1")
    other = replace(volume, series_uid="2.25.1")
    uids = {tracking_uid(v, n, c) for v in (volume, other) for n in (1, 2) for c in "12"}
    assert len(uids) == 8


def test_a_series_follows_from_its_object_and_from_nothing_else(make_volume, masks, record):
    given = {"volume": make_volume(), "record": record, "arrays": [masks]}
    weights = replace(record.weights, before="0" * 64)
    changes = [
        {},
        {"record": replace(record, recipe_sha256="0" * 64)},
        {"record": replace(record, weights=weights)},
        {"arrays": [masks[::-1]]},
    ]
    objects = [instance_uid("BINARY", **{**given, **change}) for change in changes]
    objects.append(instance_uid("measurements", **given))
    series = [series_uid(uid) for uid in objects]
    assert len({*objects, *series}) == 2 * len(objects)
    assert all(UID(uid).is_valid for uid in series)
    later = replace(record, seconds={"adaptation": 99.0})
    assert series_uid(instance_uid("BINARY", **{**given, "record": later})) == series[0]
