"""The scripts in examples/ run as they are shown."""

import runpy
from pathlib import Path

import pytest

from pipeline.archive.drawn.drawing import draw_archive
from pipeline.gallery.table import Gallery

EXAMPLES = Path(__file__).parents[1] / "examples"
NETWORK = EXAMPLES.parent / "jobs" / "demo_network" / "demo.onnx"


def example(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    draw_archive(folder, identities=6, distractors=2)
    return folder


def test_arrays(capsys):
    example("arrays")["main"]()
    out = capsys.readouterr().out
    assert "over 10 valid queries; 0 have no match" in out
    assert out.count("query ") == 10


def test_folder_to_report(archive, tmp_path, capsys):
    folders = [str(archive / name) for name in ("query", "bounding_box_test")]
    example("folder_to_report")["main"](*folders, str(NETWORK), "market1501", str(tmp_path))
    assert (tmp_path / "report" / "report.html").exists()
    assert "baseline" in capsys.readouterr().out


def test_own_network(archive, tmp_path, capsys):
    place = str(tmp_path / "gallery")
    run = example("own_network")["main"]
    run(str(archive / "query"), "market1501", place)
    first = Gallery.open(place)
    assert first.dimension == 24
    assert "baseline" in capsys.readouterr().out
    run(str(archive / "query"), "market1501", place)
    assert Gallery.open(place).version == first.version  # nothing was new
