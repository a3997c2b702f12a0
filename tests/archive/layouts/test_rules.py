import pytest

from pipeline.archive.layouts.rules import LabelSettings
from pipeline.errors import InputError


def test_what_differs_from_the_defaults_stands_beside_the_layout():
    settings = LabelSettings(0, "Asia/Shanghai", ("identity=pid",), ("split=query",))
    said = "none, first_identity 0, time_zone Asia/Shanghai, columns identity=pid"
    assert settings.described("none") == said


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"first_identity": 2}, "`first_identity` must be 0 or 1, not 2"),
        ({"time_zone": "Mars/Olympus"}, "unknown time zone 'Mars/Olympus'"),
        ({"time_zone": "../etc"}, "unknown time zone"),
        ({"columns": ("label",)}, "`columns`: 'label' is not of the form identity=label"),
        ({"columns": ("pid=label",)}, "pid is not one of path, identity, camera"),
        ({"columns": ("identity=a", "identity=b")}, "`columns` names identity twice"),
        ({"only": ("split=",)}, "`only`: 'split=' is not of the form split=query"),
    ],
)
def test_settings_without_meaning_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        LabelSettings(**fields)
