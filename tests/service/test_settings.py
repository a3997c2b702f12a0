import pytest

from pipeline.errors import InputError
from pipeline.service.settings import ServiceSettings
from tests.service.asking import TOKEN


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"port": 70_000}, "`port` must be from 0"),
        ({"port": -1}, "`port` must be from 0"),
        ({"max_body_bytes": 0}, "`max_body_bytes` must be at least 1"),
        ({"max_results": 0}, "`max_results` must be at least 1"),
        ({"burst": 0}, "`burst` must be at least 1"),
        ({"requests_per_second": 0}, "`requests_per_second` must be above 0"),
        ({"body_seconds": float("nan")}, "`body_seconds` must be above 0"),
        ({"batch_ms": -1}, "`batch_ms` must be from 0 to 1000"),
        ({"names": ("a b",)}, "'a b' is not the name"),
        ({"names": ("*",)}, "is not the name"),
        ({"host": ""}, "is not the name"),
        ({"token": "short"}, "16 to 4,096 visible"),
        ({"token": "with a space in the middle"}, "no spaces"),
        ({"host": "0.0.0.0"}, "needs a token"),
        ({"host": "gallery.example"}, "needs a token"),
        ({"host": "192.168.1.7"}, "needs a token"),
    ],
)
def test_wrong_settings_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        ServiceSettings(**wrong)


def test_who_reaches_the_service():
    assert ServiceSettings(host="localhost").is_loopback
    assert ServiceSettings(host="::1").is_loopback
    assert not ServiceSettings(host="0.0.0.0", token=TOKEN).is_loopback


def test_the_token_is_not_shown():
    assert TOKEN not in repr(ServiceSettings(token=TOKEN))
