"""The prediction of what an archive takes, against what was measured."""

import re
from pathlib import Path

import pytest

from jobs.plan import _duration, _size
from pipeline.errors import InputError
from pipeline.runs.scale_constants import CONSTANTS
from pipeline.runs.scale_plan import ScaleSettings, predict

ROOT = Path(__file__).parents[2]
TWO_CORES = ScaleSettings(cpus=2, dimension=512, queries=3368)
FACTOR = 1.4
"""How far a prediction may lie from the figures that its constants come from."""


def stages(crops, settings=TWO_CORES):
    return {each.stage: each for each in predict(crops, settings).stages}


def near(predicted, measured, factor=FACTOR):
    return measured / factor < predicted < measured * factor


def measured_rows(heading, page="performance.md"):
    """The cells of the table below a heading of a page."""
    text = (ROOT / "docs" / page).read_text().split(heading, 1)[1]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)[0]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]


def number(text):
    return float(re.match(r"[\d,.]+", text)[0].replace(",", ""))


MILLION = "## The whole of an evaluation at a million rows"


def test_the_evaluation_of_a_million_rows_is_predicted():
    steps = {name: number(seconds) for name, seconds in measured_rows(MILLION)}
    found = stages(1_000_000)
    graph = next(value for name, value in steps.items() if name.startswith("neighbor graph"))
    assert near(found["neighbors"].seconds, graph + steps["features copied from the gallery"])
    others = sum(found[name].seconds for name in ("expansion", "evaluation"))
    told = ("the plain figures", "expansion from it, and its figures")
    told += ("k-reciprocal ranks from the same graph",)
    assert near(others, sum(steps[name] for name in told))
    whole = others + found["neighbors"].seconds
    assert near(whole, next(value for name, value in steps.items() if name.startswith("the whole")))
    assert near(found["neighbors"].memory_bytes, 1.9e9)


@pytest.mark.parametrize("row", measured_rows("At other sizes:"), ids=lambda row: row[0])
def test_evaluations_of_other_sizes_are_predicted(row):
    rows, seconds, memory, _ = map(number, row)
    found = stages(int(rows))
    parts = [found[name].seconds for name in ("neighbors", "expansion", "evaluation")]
    assert near(sum(parts), seconds)
    assert near(found["neighbors"].memory_bytes, 1e6 * memory)


def test_an_update_of_a_million_images_and_a_commit_are_predicted():
    found = stages(1_000_000)
    assert near(found["listing"].seconds, 11.7, 1.6)  # 8.6 s of it are the listing
    assert near(found["commit"].seconds, 1.6, 1.6)
    assert near(found["search"].seconds, 4.9)


def test_a_gpu_is_predicted():
    found = stages(1_000_000, ScaleSettings(cpus=16, gpus=1, dimension=512))
    assert near(found["neighbors"].seconds, 11.0, 1.2)
    assert near(found["extraction"].seconds, 1e6 / 3752, 1.3)


def test_neighbors_grow_with_the_square_and_the_rest_as_the_crops():
    small, large = stages(10**7), stages(10**8)
    growth = {name: large[name].seconds / small[name].seconds for name in small}
    assert growth.pop("neighbors") == pytest.approx(100, rel=0.02)
    assert all(5 < each < 10.5 for each in growth.values()), growth
    assert large["listing"].memory_bytes < 4e9  # it is bounded


def test_machines_share_the_work_and_all_are_paid():
    one = predict(10**6, ScaleSettings(cpus=8, price=2.0))
    four = predict(10**6, ScaleSettings(cpus=8, price=2.0, machines=4))
    assert one.whole_seconds / 4 < four.whole_seconds < one.whole_seconds / 3
    for told in (one, four):
        expected = told.whole_seconds / 3600 * 2.0 * told.machines
        assert told.whole_money == pytest.approx(expected)
    assert predict(10**6, ScaleSettings(cpus=8)).whole_money is None


def test_a_bucket_costs_requests_and_waiting():
    disk = stages(10**6, ScaleSettings(cpus=8, gpus=1, price=0.0))
    bucket = stages(10**6, ScaleSettings(cpus=8, gpus=1, price=0.0, bucket=True))
    assert disk["extraction"].requests == 0
    assert bucket["extraction"].requests > 10**6
    assert bucket["extraction"].limit == "latency of the bucket"
    assert bucket["extraction"].seconds > 5 * disk["extraction"].seconds
    assert bucket["extraction"].money == pytest.approx(0.4 + 4 * 977 * 5e-6, rel=0.01)
    cameras = stages(10**6, ScaleSettings(cpus=8, bucket=True, cameras=5000))
    assert (bucket["listing"].requests, cameras["listing"].requests) == (1000, 5000)


def test_half_precision_and_more_dimensions_change_the_disk():
    plain, half, wide = (
        stages(10**6, ScaleSettings(cpus=2, dimension=dimension, storage=storage))["extraction"]
        for dimension, storage in ((512, None), (512, "float16"), (2048, "float32"))
    )
    assert near(plain.disk_bytes, 2.1e9, 1.05)
    assert plain.disk_bytes - half.disk_bytes == 1024 * 10**6
    assert wide.disk_bytes - plain.disk_bytes == 4 * 1536 * 10**6


def test_what_was_not_given_is_told():
    told = " ".join(predict(1000).assumptions)
    for name in ("dimension", "cameras", "queries", "crop_bytes", "crops_per_second", "cpus"):
        assert f"{name} " in told
    given = ScaleSettings(
        cameras=2, queries=3, dimension=4, crop_bytes=5, crops_per_second=6, cpus=7
    )
    (only,) = predict(1000, given).assumptions
    assert only.startswith("cores as fast")


def test_advice_is_given_where_it_helps():
    assert predict(1000, TWO_CORES).advice == ()
    told = " ".join(predict(10**8, ScaleSettings(cpus=16, bucket=True)).advice)
    for words in ("square of the crops", "within a day needs", "GiB in one process"):
        assert words in told


@pytest.mark.parametrize("name", ["cameras", "queries", "dimension", "machines", "cpus"])
def test_numbers_that_cannot_be_are_refused(name):
    with pytest.raises(InputError, match=f"`{name}` must be at least 1, not 0"):
        ScaleSettings(**{name: 0})


def test_other_wrong_numbers_are_refused():
    with pytest.raises(InputError, match="`crops_per_second` must be above 0, not 0"):
        ScaleSettings(crops_per_second=0)
    with pytest.raises(InputError, match="`price` must be at least 0, not -1"):
        ScaleSettings(price=-1)
    with pytest.raises(InputError, match="a work unit holds 1 to 2048"):
        ScaleSettings(unit_size=3000)
    with pytest.raises(InputError, match="`crops` must be at least 1, not 0"):
        predict(0)


def test_every_constant_has_a_unit_and_a_source():
    assert all(each.value > 0 and each.unit and each.source for each in CONSTANTS.values())
    used = (ROOT / "pipeline" / "runs" / "scale_plan.py").read_text()
    assert [name for name in CONSTANTS if f'"{name}"' not in used] == []


def test_the_page_shows_the_constants():
    shown = [row[:3] for row in measured_rows("## The constants", "scaling.md")]
    known = [[f"`{name}`", f"{each.value:g}", each.unit] for name, each in CONSTANTS.items()]
    assert shown == known


def test_the_page_shows_what_is_predicted():
    shown = {row[0]: row[1:] for row in measured_rows("## One machine with 16", "scaling.md")}
    of = ScaleSettings(
        cpus=16, gpus=1, dimension=512, queries=3368, cameras=100, crops_per_second=3750
    )
    for place, crops in enumerate((10**6, 10**7, 10**8)):
        told = predict(crops, of)
        for each in told.stages:
            assert shown[each.stage][place] == _duration(each.seconds)
        assert shown["all"][place] == _duration(told.whole_seconds)
        scratch = max(each.scratch_bytes for each in told.stages)
        assert shown["scratch"][place] == _size(scratch)
