"""Verbs that take several galleries, by the command line."""

import pytest

from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import refused, result


@pytest.fixture
def galleries(tmp_path):
    return [
        labeled_gallery(tmp_path / name, *people(5, 40, seed=seed)).location
        for seed, name in enumerate("abq")
    ]


def test_flags_and_configuration_name_several_galleries(capsys, galleries, tmp_path):
    a, b, q = galleries
    plain = ("--query", q, "--replicates", 0, "--no-open-set", "--no-camera-pairs")
    both = ("--gallery", a, "--gallery", b)
    told = result(capsys, "evaluate", *plain, *both, "--out", tmp_path / "r")
    assert told["report"]["gallery"]["rows"] == 80
    config = tmp_path / "c.toml"
    config.write_text(f'gallery = ["{a}", "{b}"]\ngallery-version = [1, 1]\n')
    again = result(capsys, "evaluate", *plain, "--config", config, "--out", tmp_path / "s")
    assert again["report"]["results"][0]["mAP"] == told["report"]["results"][0]["mAP"]
    config.write_text(f'gallery = "{a}"\n')
    one = result(capsys, "evaluate", *plain, "--config", config, "--out", tmp_path / "t")
    assert one["report"]["gallery"]["rows"] == 40
    flags = ("--out", tmp_path / "l.parquet", "--threshold", 0.5)
    linked = result(capsys, "link", *both, *flags)
    assert linked["rows_linked"] == result(capsys, "link", a, b, *flags)["rows_linked"] > 40
    line = refused(capsys, "link", a, b, *flags, "--version", 1)
    assert "--version is given 1 times for 2 galleries" in line


def test_galleries_are_merged_split_and_purged(capsys, galleries, tmp_path):
    a, b, _ = galleries
    for place in (a, b):  # one source, and so paths of their own
        assert result(capsys, "info", place)["rows"] == 40
    line = refused(capsys, "merge", a, b, "--out", tmp_path / "m")
    assert "40 paths are in two galleries" in line
    told = result(capsys, "merge", a, "--out", tmp_path / "m")
    assert (told["rows"], told["rows_added"], told["rejects"]) == (40, 40, {})
    assert result(capsys, "info", tmp_path / "m")["derived"] == f"merged from {a}"
    told = result(capsys, "split", tmp_path / "m", "--out", tmp_path / "s")
    assert [part["gallery"] for part in told["parts"]] == [
        f"{tmp_path}/s/camera-c{number}" for number in range(3)
    ]
    assert (told["by"], sum(part["rows"] for part in told["parts"])) == ("camera", 40)
    flags = ("--ids", 7, "--purge", "--everywhere", "--yes")
    outputs = result(capsys, "erase", a, *flags)["purged"]["outputs"]
    assert sorted(each["kind"] for each in outputs) == ["merged gallery", "part of a split gallery"]
    assert all(each["is_removed"] for each in outputs)
    assert result(capsys, "info", tmp_path / "m")["rows"] == 39
    assert result(capsys, "verify", tmp_path / "m")["findings"] == []
