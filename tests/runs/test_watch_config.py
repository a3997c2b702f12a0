"""The configuration of a watch: its order, and every fault with key and line before any work."""

import re

import pytest

from pipeline.errors import InputError
from pipeline.runs.watch_config import read_watch
from pipeline.runs.watch_steps import verb_of

WHOLE = """\
[watch]
silent_after = "2d"
ignore-cameras = ["7"]

[[link]]
gallery = "t"
out = "links.parquet"
k = 5
camera = ["1", "2"]
travel_times = "times.csv"

[[expand]]   # before its parent
gallery = "t"
out = "e"

[[tracklets]]
gallery = "g"
out = "t"

[[erase]]
gallery = "g"
older_than = "90d"
purge = true

[[extract]]
source = "s3://bucket/north"
gallery = "g"
model = "osnet.onnx"
class = ["person"]
flip = true
mean = [0, 0.5, 1]
max_missing = 1
"""


def read(tmp_path, text):
    (tmp_path / "w.toml").write_text(text)
    return read_watch(tmp_path / "w.toml")


def test_steps_come_after_what_they_depend_on(tmp_path):
    (tmp_path / "osnet.onnx").touch()
    plan = read(tmp_path, WHOLE)
    assert [verb_of(step) for step in plan.steps] == [
        "extract", "erase", "tracklets", "expand", "link"]  # fmt: skip
    assert plan.needs == ((), (0,), (0, 1), (2,), (2,))
    extract, erase, tracklets, _, link = plan.steps
    assert (extract.source, extract.gallery) == ("s3://bucket/north", str(tmp_path / "g"))
    assert extract.model == str(tmp_path / "osnet.onnx")
    assert (extract.boxes.class_, extract.recipe.flip, extract.recipe.mean) == (
        ("person",), True, (0.0, 0.5, 1.0))  # fmt: skip
    assert extract.update.max_missing == 1
    assert (erase.older_than, erase.purge, tracklets.feature) == ("90d", True, "mean")
    assert (link.settings.k, link.out) == (5, str(tmp_path / "links.parquet"))
    assert link.select.camera == ("1", "2")
    assert link.settings.travel_times == str(tmp_path / "times.csv")
    assert plan.reporting.silence.days == 2 and plan.reporting.ignore_cameras == ("7",)


def test_a_built_in_network_keeps_its_name(tmp_path):
    text = "[extract]\nsource = 'a'\ngallery = 'g'\nmodel = 'osnet_x1_0'\ncheckpoint = 'o.pth'"
    (step,) = read(tmp_path, text).steps
    assert (step.model, step.checkpoint) == ("osnet_x1_0", str(tmp_path / "o.pth"))


EXTRACT = "[[extract]]\nsource = 'a'\ngallery = 'g'\nmodel = 'm.onnx'\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["line 1: nothing to bring up to date"]),
        ("[[extrakt]]\na = 1", ["line 1: [extrakt] is not known: did you mean extract?"]),
        (EXTRACT + "unit_sise = 9", ["line 5: unit_sise of [extract] is not known: did you mean"
                                     " unit_size?"]),
        (EXTRACT + "unit_size = 'many'", ["line 5: unit_size of [extract]: 'many' cannot be used"]),
        (EXTRACT + "unit_size = 2.5", ["line 5: unit_size of [extract]: 2.5 cannot be used"]),
        (EXTRACT + "layout = ''", ["line 5: layout of [extract]: it is empty"]),
        (EXTRACT + "flip = 1", ["line 5: flip of [extract]: 1 cannot be used"]),
        (EXTRACT + "\nevery = 0", ["line 6: [extract]: every must be at least 1"]),
        (EXTRACT + "layout = 'market'", ["line 5: [extract]: layout: no layout is"]),
        (EXTRACT + "dry_run = true", ["line 5: [extract]: dry_run has no place in a watch"]),
        ("[[extract]]\nsource = 'a'", ["line 1: [extract] has no gallery", "has no model"]),
        ("extract = 1", ["line 1: extract must be a table"]),
        (EXTRACT + "[watch]\nsilent_after = '2x'", ["line 6: [watch]: silent_after: '2x' is no"]),
        (EXTRACT + "[watch]\nlevel = 1.0", ["line 6: [watch]: level lies between 0 and 1"]),
        (EXTRACT + "[[erase]]\ngallery = 'g'", ["line 5: [erase]: older_than or where must"]),
        (EXTRACT + "[[erase]]\ngallery = 'g'\nolder_than = '3y'", ["line 7: [erase]: older_"]),
        (EXTRACT + "[[erase]]\ngallery = 'g'\nwhere = 'a'\neverywhere = true",
         ["line 8: [erase]: everywhere goes with purge"]),
        (EXTRACT + "[[erase]]\ngallery = 'g'\nwhere = 'a'\nmax_erased = 2",
         ["line 8: [erase]: max_erased must be a share"]),
        (EXTRACT + "[[link]]\ngallery = 'g'\nout = 'l.txt'", ["line 7: [link]: out"]),
        (EXTRACT * 2, ["line 5:", "is made by the step of line 1 already"]),
        (EXTRACT + "[[tracklets]]\ngallery = 'h'\nout = 't'", ["line 6: there is no gallery"]),
        (EXTRACT + "[[expand]]\ngallery='b'\nout='a'\n[[expand]]\ngallery='a'\nout='b'",
         ["these depend on each other:"]),
        (EXTRACT + "a = 1\nb = 1", ["line 5: a of [extract]", "line 6: b of [extract]"]),
        ("a = [", ["cannot be read as TOML"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_key_and_line(tmp_path, text, told):
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    for each in told:
        assert re.search(re.escape(each), str(error.value)), str(error.value)
