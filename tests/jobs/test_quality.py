"""Crop quality: a column, and a limit below which crops are left out and counted."""

import numpy as np
import pytest
from PIL import Image

from pipeline.archive.decoding.images import decode
from pipeline.core.crop_quality import quality
from pipeline.gallery.table import Gallery
from tests.jobs.running import refused, result
from tests.stages.making import save_source


@pytest.fixture
def source(tmp_path):
    folder = save_source(tmp_path / "source", 20)
    for number in range(15):  # of no quality at all
        path = folder / f"0009_c1s1_{number:06d}_00.png"
        Image.fromarray(np.full((32, 16, 3), number, np.uint8)).save(path)
    return folder


def stored(command):
    rows = Gallery.open(str(command[3])).rows(["path", "quality"]).to_pylist()
    return {row["path"]: row["quality"] for row in rows}


def test_quality_is_kept_where_it_is_asked_for(capsys, command, source):
    result(capsys, *command, "--quality")
    found = stored(command)
    assert len(found) == 35
    for path, value in found.items():
        assert value == np.float32(quality(decode((source / path).read_bytes())))


def test_crops_below_the_least_quality_are_left_out_and_do_not_stop_the_run(
    capsys, command, source
):
    told = result(capsys, *command, "--min-quality", 100, "--unit-size", 8)
    assert (told["rows"], told["rejected"], told["rejects"]) == (20, 15, {"low-quality": 15})
    assert min(stored(command).values()) >= 100
    again = result(capsys, *command)
    assert (again["new"], again["unchanged"]) == (0, 35)
    for number in range(11):  # these do
        (source / f"0008_c1s1_{number:06d}_00.png").write_bytes(b"no picture")
    assert "In the last unit: 11 for not-an-image" in refused(capsys, *command, status=1)


def test_units_of_another_quality_are_not_taken_over(capsys, command, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "commit", lambda *_, **__: 1 / 0)
        refused(capsys, *command, status=1)
    told = result(capsys, *command, "--quality")
    assert told["units_resumed"] == 0
    assert None not in stored(command).values()


def test_a_wrong_quality_is_told(capsys, command):
    assert "--min-quality must be at least 0, not -1" in refused(
        capsys, *command, "--min-quality", -1
    )
