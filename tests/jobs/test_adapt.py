"""The verb adapt: from the command line to the network, and its refusals."""

import json
from pathlib import Path

import pytest

from jobs import demo_network
from jobs.cli import main
from pipeline.archive.drawn.passages import PASSAGE_LAYOUT, draw_passages
from pipeline.gallery.table import Gallery
from pipeline.model.backends.torch_network import torch_threads
from pipeline.runs.verdicts import give_verdict

FOLDER = Path(demo_network.__file__).parent
DEMO = str(FOLDER / "demo.safetensors")


@pytest.fixture(autouse=True)
def one_thread():
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive")
    draw_passages(root, identities=16, cameras=2, crops=4)
    return root


GIVEN = {
    "--model": "demo", "--checkpoint": DEMO, "--layout": PASSAGE_LAYOUT, "--rounds": "1",
    "--round-epochs": "1", "--people": "2", "--crops": "2", "--min-samples": "2",
    "--held-out": "0.6", "--actors": "0",
}  # fmt: skip


def flags(archive: Path, out: Path, *switches: str, **changes: str) -> list[str]:
    given = GIVEN | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    named = [text for pair in given.items() for text in pair]
    return ["adapt", str(archive), "--out", str(out), *named, *switches]


def extraction(archive: Path, gallery: Path | str, checkpoint: str = DEMO) -> list[str]:
    return [
        "extract", str(archive), "--gallery", str(gallery), "--model", "demo",
        "--checkpoint", checkpoint, "--layout", PASSAGE_LAYOUT, "--actors", "0",
    ]  # fmt: skip


def test_a_network_is_adapted_and_extracts(archive, tmp_path, capsys):
    """A worse network ends with exit 1 and the reason; both leave a report."""
    status = main(flags(archive, tmp_path / "out", "--json"))
    told = capsys.readouterr()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Ranked rows of other cameras, before and after" in page and "data:image/jpeg" in page
    network = tmp_path / "out" / "network.safetensors"
    if status == 1:
        assert "is not accepted: at a false-match rate of" in told.err
        assert not network.exists()
        return
    assert status == 0
    found = json.loads(told.out)
    assert found["network"] == str(network) and len(found["rounds_done"]) == 1
    assert main(extraction(archive, tmp_path / "g", str(network))) == 0


def test_verdicts_are_must_links_and_cannot_links(archive, tmp_path, capsys):
    """Two rows that a person says are one are of one cluster, and the folder knows it."""
    gallery = str(tmp_path / "g")
    assert main(extraction(archive, gallery)) == 0
    main(flags(archive, tmp_path / "out"))
    clusters = _clusters(tmp_path / "out")
    first = next(path for path, cluster in clusters.items() if cluster == 0)
    second = next(path for path, cluster in clusters.items() if cluster == 1)
    give_verdict(Gallery.open(gallery), first, second, "same", who="a")
    capsys.readouterr()
    assert main(flags(archive, tmp_path / "out", verdicts=gallery)) == 2
    assert "its verdicts differ" in capsys.readouterr().err
    main(flags(archive, tmp_path / "judged", verdicts=gallery))
    again = _clusters(tmp_path / "judged")
    assert again[first] == again[second]


def test_verdicts_of_another_source_are_refused(archive, tmp_path, capsys):
    other = tmp_path / "other"
    draw_passages(other, identities=4, cameras=2, crops=2)
    gallery = str(tmp_path / "g")
    assert main(extraction(other, gallery)) == 0
    assert main(flags(archive, tmp_path / "out", verdicts=gallery)) == 2
    assert "its paths mean other crops" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": str(FOLDER / "none.pth")}, "none.pth"),
        ({"people": "1"}, "--people must be at least 2"),
        ({"workers": "2"}, "2 --workers cannot share 1 --micro-batches"),
        ({"part": "neck"}, "neck"),
        ({"part": "lora"}, "--part lora"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    archive, tmp_path, capsys, change, message
):
    assert main(flags(archive, tmp_path / "out", **change)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_network_file_is_refused(archive, tmp_path, capsys):
    given = flags(archive, tmp_path / "out")
    given[given.index("demo")] = str(FOLDER / "demo.onnx")
    given[given.index("--checkpoint") : given.index("--checkpoint") + 2] = []
    assert main(given) == 2
    assert "a network file cannot be trained" in capsys.readouterr().err


def _clusters(out: Path) -> dict[str, int]:
    import pyarrow.parquet as pq

    table = pq.read_table(out / "round-01" / "clusters.parquet")
    return dict(zip(table["path"].to_pylist(), table["cluster"].to_pylist(), strict=True))
