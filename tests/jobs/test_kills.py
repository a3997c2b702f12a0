"""Every verb that writes, cut off at many instants: the same command, once more, ends as if nothing
had happened, in what it made and in every name of every folder that it touched.
"""

import json
import random
import shutil
import time
from functools import cache

import numpy as np
import pytest

from jobs import cli
from pipeline.gallery.opening import exists
from pipeline.gallery.table import Gallery
from pipeline.runs import reporting
from tests.gallery.crashing import interrupted
from tests.gallery.making import contents
from tests.jobs.killing import start
from tests.jobs.labeled import add_rows, labeled_gallery, people
from tests.jobs.running import SIZE
from tests.model.making import save_onnx
from tests.stages.making import save_network, save_source

TELLING = ("replace", "link", "create_write_transaction", "after create_write_transaction")
RANDOM = 1
"""Operations by chance, beside those of which a command has one kind each; `model export` measures
its copy each time, and has none."""
MADE_ANEW = ("_delta_log", "_delta_log.json", "report.json", "report.html", "out.xml")
"""Files in which a time or a running number stands; galleries and reports are compared by what they
say."""

G, Q, OUT, SCRATCH = ("{work}/g", "{work}/q", "{work}/out", "{work}/scratch")
ON = ("--memory", 0.001, "--scratch", SCRATCH)
VERBS = {
    "extract": ("{source}", "--gallery", OUT, "--model", "{network}", "--unit-size", 4, *SIZE),
    "re-extract": (
        "--gallery", "{extracted}", "--out", OUT, "--model", "{network}", "--height", 24,
        "--width", 16, "--unit-size", 4, "--actors", 0,
    ),
    "import": ("{features}", "--gallery", OUT, "--format", "npy", "--made-by", "another tool"),
    "export": ("--gallery", G, "--out", OUT),
    "expand": ("--gallery", G, "--out", OUT, "-k", 3, "--times", 2, *ON),
    "evaluate": (
        "--query", Q, "--gallery", G, "--out", OUT, "--aqe", "joint", "--k", 3, "--times", 2,
        "--rerank", "--replicates", 0, "--no-open-set", "--no-camera-pairs", *ON,
    ),
    "link": ("--gallery", G, "--out", "{work}/link.parquet", "--threshold", 0.5, *ON),
    "calibrate": ("--gallery", G, "--far", 0.01),
    "erase": ("--gallery", G, "--ids", 3, 45),
    "erase --purge": ("--gallery", G, "--ids", 3, 45, "--purge"),
    "compact": ("--gallery", G),
    "restore": ("--gallery", G, "--version", 1, "--yes"),
    "clean": ("--gallery", G, "--keep", 1, "--yes"),
    "model export": ("{onnx}", "--to", "openvino", "--out", "{work}/out.xml",
        "--batch-size", 2, *SIZE[:4]),
}  # fmt: skip


class Kill(BaseException):
    """Not an Exception: nothing on the way may take it for an error to be handled."""


def kill():
    raise Kill


@pytest.fixture(autouse=True)
def progress_stored_once(monkeypatch):
    """On a slow machine it would be stored again, and a command would have more operations."""
    monkeypatch.setattr(reporting, "RENEWAL_SECONDS", float("inf"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of what commands read, of what is there before them, and where they work."""
    root = tmp_path_factory.mktemp("kills")
    before = root / "before"
    features, identity, camera = people(12, 60, spread=0.05)
    gallery = labeled_gallery(before / "g", features[:40], identity[:40], camera[:40])
    gallery = add_rows(gallery, features[40:], identity[40:], camera[40:])
    gallery.commit([], run_id="one less", removes=[7])
    labeled_gallery(before / "q", *people(12, 15, seed=1, spread=0.05))
    (before / "scratch").mkdir()
    np.save(root / "features.npy", features)
    rows = "".join(f"{number}.jpg,{camera[number]}\n" for number in range(60))
    (root / "rows.csv").write_text(f"path,camera\n{rows}")
    save_source(root / "source", 10)
    (root / "source" / "0001_c1s1_000099_00.jpg").write_bytes(b"no picture")
    network = save_network(root).path
    extracted = root / "extracted"
    made = ("extract", root / "source", "--gallery", extracted, "--model", network, *SIZE)
    assert cli.main([str(each) for each in made]) == 0
    return {
        "work": root / "work",
        "before": before,
        "source": root / "source",
        "network": network,
        "onnx": save_onnx(root / "tiny.onnx"),
        "features": root / "features.npy",
        "extracted": extracted,
    }


def prepare(place):
    shutil.rmtree(place["work"], ignore_errors=True)
    shutil.copytree(place["before"], place["work"])


def command(place, verb):
    name = verb.removesuffix(" --purge").split()
    return [*name, *(str(each).format_map(place) for each in VERBS[verb])]


def state(work):
    """Every name below a folder, with the bytes of what must be the same to the byte; what the
    galleries hold, and the figures of a report.
    """
    names = {}
    for path in sorted(work.rglob("*")):
        compared = path.is_file() and not set(MADE_ANEW) & set(path.relative_to(work).parts)
        names[str(path.relative_to(work))] = said(path) if compared else None
    galleries = {}
    for folder in work.iterdir():
        if folder.is_dir() and exists(str(folder)):
            found = Gallery.open(str(folder))
            galleries[folder.name] = (
                found.version,
                contents(found),
                found.rejects().to_pydict(),
                [each.run_id for each in found.history()],
            )
    return names, galleries, figures(work / "out" / "report.json")


def said(path):
    """The bytes of a file; of what tells a time, or the checksum of what tells one, all else."""
    if path.suffix == ".json" and path.parent.name in ("_calibrations", "_outputs"):
        if path.parent.parent.name == "_checksums":
            return json.loads(path.read_text())["file"]
        about = json.loads(path.read_text())
        files = sorted(about.pop("files", ()))
        return {key: value for key, value in about.items() if key != "calibrated_at"}, files
    if path.name == "out.toml":  # its first line has the checksum of out.xml
        return path.read_text().partition("\n")[2]
    return path.read_bytes()


def figures(report):
    if not report.exists():
        return None
    about = json.loads(report.read_text())
    return [{k: v for k, v in each.items() if k != "seconds"} for each in about["results"]]


@pytest.fixture(scope="module")
def operations(place):
    """The state after a command that nothing disturbs, and its operations on the disk."""

    @cache
    def undisturbed(verb):
        prepare(place)
        with interrupted(-1, kill, inside=place["work"]) as seen:
            assert cli.main(command(place, verb)) == 0
        assert not list((place["work"] / "scratch").iterdir())
        return state(place["work"]), list(seen)

    return undisturbed


def check(place, verb, operation, wanted):
    prepare(place)
    cut_off = interrupted(operation, kill, dead=True, inside=place["work"])
    with cut_off, pytest.raises(Kill):
        cli.main(command(place, verb))
    assert cli.main(command(place, verb)) == 0
    found = state(place["work"])
    assert found[0].keys() == wanted[0].keys()
    assert [name for name, data in found[0].items() if data != wanted[0][name]] == []
    assert found[1:] == wanted[1:]


@pytest.mark.parametrize("verb", VERBS)
def test_cut_off_at_any_instant_one_run_more_leaves_nothing(place, operations, verb):
    wanted, names = operations(verb)
    last = {name: number for number, name in enumerate(names)}
    instants = {last[name] for name in TELLING if name in last} | {len(names) - 1}
    if verb != "model export":
        instants |= set(random.Random(verb).sample(range(len(names)), RANDOM))
    for operation in sorted(instants):
        check(place, verb, operation, wanted)


@pytest.mark.parametrize("verb", ["evaluate", "expand"])
def test_killed_one_run_more_leaves_nothing_and_a_purge_neither(place, operations, verb):
    """The real signal, at the moment at which features lie in the scratch folder."""
    wanted, _ = operations(verb)
    prepare(place)
    process = start(*command(place, verb))
    scratch = place["work"] / "scratch"
    while not list(scratch.glob("*/**/*.npy")) and process.is_alive():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -9
    assert len(list(scratch.glob("*/**/*.npy"))) == 1
    shutil.copytree(place["work"], place["work"].with_name("killed"))
    assert cli.main(command(place, verb)) == 0
    assert state(place["work"]) == wanted
    shutil.rmtree(place["work"])
    place["work"].with_name("killed").rename(place["work"])
    assert cli.main(command(place, "erase --purge")) == 0
    assert list(scratch.iterdir()) == list((place["work"] / "g" / "_scratch").iterdir()) == []
