"""Settings as they are typed on a command line."""

import pytest

from grata_monai.bundle.settings import parse_settings


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("['batch',{}]", ["batch", {}]),
        ('["instance",{"affine":false}]', ["instance", {"affine": False}]),
        ("[1.5,1.5,10.0]", [1.5, 1.5, 10.0]),
        ("1e-3", 0.001),
        ("None", None),
        ("null", None),
        ("source", "source"),
        ("a=b", "a=b"),
        ("@roi_size", "@roi_size"),
        ("", ""),
    ],
)
def test_a_value_is_json_or_what_monai_makes_of_it(typed, value):
    assert parse_settings([f"network_def#norm_name={typed}"]) == {"network_def#norm_name": value}


def test_the_last_value_of_an_id_counts():
    assert parse_settings(["a=1", "b=2", "a=3"]) == {"a": 3, "b": 2}


@pytest.mark.parametrize("text", ["recipe", "=source", ""])
def test_what_has_no_id_or_no_value_is_refused(text):
    with pytest.raises(ValueError, match=rf"must be ID=VALUE, got '{text}'. Write --set"):
        parse_settings([text])
