import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from pipeline.core.evaluation.labels import Labels
from pipeline.gallery.formats import features as interchange
from pipeline.gallery.formats import mat_files
from pipeline.gallery.table import Gallery
from tests import oracles
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import SIZE, refused, result, run
from tests.stages.making import Tiny, save_network, save_source

MADE = ("--made-by", "layumi ft_ResNet50")


@pytest.fixture(scope="module")
def sides():
    """Queries and gallery as another tool has them: of any length, with junk and distractors."""
    made = {}
    for part, rows, seed in (("query", 30, 3), ("gallery", 150, 4)):
        features, identity, camera = people(20, rows, seed=seed, spread=0.3)
        lengths = np.random.default_rng(seed).uniform(0.5, 20, (rows, 1)).astype(np.float32)
        made[part] = features * lengths, np.array(identity), np.array([int(c[1:]) for c in camera])
    made["query"][1][made["query"][1] < 1] = 5
    return made


@pytest.fixture
def mat(sides, tmp_path):
    """`pytorch_result.mat` as layumi's test.py saves it."""
    held = {}
    for part, (features, identity, camera) in sides.items():
        held |= {f"{part}_f": features, f"{part}_label": identity.tolist()}
        held[f"{part}_cam"] = camera.tolist()
    scipy.io.savemat(tmp_path / "pytorch_result.mat", held)
    return tmp_path / "pytorch_result.mat"


def import_mat(capsys, mat, part, *flags):
    place = mat.with_name(part)
    told = result(
        capsys, "import", mat, "--gallery", place, "--format", "mat", "--part", part, *MADE, *flags
    )  # fmt: skip
    return place, told


def test_both_definitions_of_ap_are_reproduced_from_a_mat_file(capsys, mat, sides):
    query, _ = import_mat(capsys, mat, "query")
    gallery, told = import_mat(capsys, mat, "gallery")
    assert (told["rows"], told["dimension"], told["rejects"]) == (150, 24, {})
    flags = ("--query", query, "--gallery", gallery, "--out", mat.with_name("report"))
    (figures,) = result(capsys, "evaluate", *flags)["report"]["results"]
    unit = {
        part: (f / np.linalg.norm(f, axis=1, keepdims=True), Labels(identity, camera))
        for part, (f, identity, camera) in sides.items()
    }
    ranks = [each for each in oracles.hit_ranks(*unit["query"], *unit["gallery"]) if each]
    assert figures["valid"] == len(ranks)
    assert figures["mAP"] == pytest.approx(np.mean([oracles.average_precision(r) for r in ranks]))
    assert figures["mAP_trapezoid"] == pytest.approx(
        np.mean([oracles.average_precision_trapezoid(r) for r in ranks])
    )


def test_an_exported_mat_file_holds_what_was_imported(capsys, mat, sides, monkeypatch):
    query, _ = import_mat(capsys, mat, "query")
    gallery, _ = import_mat(capsys, mat, "gallery")
    out = mat.with_name("out")
    flags = ("--query", query, "--gallery", gallery, "--format", "mat", "--out", out)
    told = result(capsys, "export", *flags)
    assert [each.rpartition("/")[2] for each in told["files_written"]] == [
        "pytorch_result.mat", "gallery.json",
    ]  # fmt: skip
    found = scipy.io.loadmat(out / "pytorch_result.mat")
    for part, (features, identity, camera) in sides.items():
        assert found[f"{part}_label"].ravel().tolist() == identity.tolist()
        assert found[f"{part}_cam"].ravel().tolist() == camera.tolist()
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        assert found[f"{part}_f"] == pytest.approx(unit, abs=1e-6)
    monkeypatch.chdir(mat.parent)
    _, printed, _ = run(capsys, "export", *flags[:-1], "out")  # an earlier export is replaced
    assert printed.splitlines() == [
        "version 1: 150 rows of 24 dimensions", "out/pytorch_result.mat", "out/gallery.json",
    ]  # fmt: skip


def test_named_and_unknown_cameras_become_numbers(capsys, tmp_path):
    features, _, _ = people(3, 6)
    for name, cameras in (("q", ["hall", None]), ("g", ["door", "hall", None, None])):
        rows = features[: len(cameras)]
        labeled_gallery(tmp_path / name, rows, [1, None, 2, 3][: len(cameras)], cameras)
    flags = ("--query", tmp_path / "q", "--gallery", tmp_path / "g", "--out", tmp_path / "out")
    result(capsys, "export", *flags, "--format", "mat")
    found = scipy.io.loadmat(tmp_path / "out" / "pytorch_result.mat")
    assert found["query_cam"].tolist() == [[2, -2]]
    assert found["gallery_cam"].tolist() == [[1, 2, -5, -6]]
    assert found["query_label"].tolist() == [[1, 0]]


def features_of(place):
    gallery = Gallery.open(str(place))
    return gallery.features().read(0, gallery.count)


@pytest.fixture
def gallery(tmp_path):
    features, identity, camera = people(10, 60)
    numbers = [name.removeprefix("c") for name in camera]  # as they are read from any source
    labeled_gallery(tmp_path / "g", features, identity, numbers, frame=range(60))
    return tmp_path / "g"


@pytest.mark.parametrize(
    ("format_", "file"), [("npy", "features.npy"), ("faiss", "gallery.faiss")]
)  # fmt: skip
def test_exports_come_back(capsys, gallery, tmp_path, format_, file):
    if format_ == "faiss":
        pytest.importorskip("faiss")
    result(
        capsys, "export", "--gallery", gallery, "--out", tmp_path / "out", "--format", format_
    )  # fmt: skip
    flags = ("--gallery", tmp_path / "back", "--format", format_, "--made-by", "mine")
    result(capsys, "import", tmp_path / "out" / file, *flags)
    names = ["path", "identity", "camera", "captured_at", "frame"]
    before, after = (Gallery.open(str(p)).rows(names) for p in (gallery, tmp_path / "back"))
    assert before.to_pylist() == after.to_pylist()
    np.testing.assert_allclose(features_of(gallery), features_of(tmp_path / "back"), atol=1e-7)


def test_fastreid_files_come_back_with_labels_from_their_names(capsys, tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    features, _, _ = people(4, 8)
    for row, feature in enumerate(features):
        np.save(folder / f"{row % 3:04d}_c{row % 2 + 1}s1_{row:06d}_00.npy", feature[None] * 7)
    flags = ("--format", "fast-reid", "--made-by", "fast-reid R50", "--layout", "market1501")
    result(capsys, "import", folder, "--gallery", tmp_path / "g", *flags)
    rows = Gallery.open(str(tmp_path / "g")).rows().to_pylist()
    assert rows[0] | {"row_id": 0, "path": "0000_c1s1_000000_00.npy", "identity": 0} == rows[0]
    assert [row["camera"] for row in rows] == [row["path"][6] for row in rows]
    order = [row["frame"] for row in rows]
    np.testing.assert_allclose(features_of(tmp_path / "g"), features[order], atol=1e-6)
    result(
        capsys, "export", "--gallery", tmp_path / "g", "--out", tmp_path / "out", "--format",
        "fast-reid",
    )  # fmt: skip
    written = sorted((tmp_path / "out" / "fast-reid").iterdir())
    assert [each.name for each in written] == sorted(each.name for each in folder.iterdir())
    assert np.load(written[0]).shape == (1, 24)


def test_one_base_name_in_two_folders_is_refused(capsys, tmp_path):
    features, identity, camera = people(2, 2)
    paths = ["a/0001.jpg", "b/0001.png"]
    labeled_gallery(tmp_path / "g", features, identity, camera, path=paths)
    line = refused(
        capsys, "export", "--gallery", tmp_path / "g", "--out", tmp_path / "o", "--format",
        "fast-reid",
    )  # fmt: skip
    assert "a/0001.jpg and b/0001.png would both be 0001.npy" in line
    assert not (tmp_path / "o").exists()


def npy(folder, features, paths=None, **columns):
    np.save(folder / "features.npy", features)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", *columns])
        paths = paths or [f"{row:04d}.jpg" for row in range(len(features))]
        writer.writerows(zip(paths, *columns.values(), strict=True))
    return folder / "features.npy"


def test_features_without_a_direction_are_rejects(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(interchange, "MAX_UNIT_ROWS", 4)
    features = people(3, 10)[0]
    features[2], features[7, 3] = 0, np.nan
    source = npy(tmp_path, features, identity=[1] * 10)
    flags = ("--gallery", tmp_path / "g", "--format", "npy", "--made-by", "mine")
    told = result(capsys, "import", source, *flags)
    assert (told["rows"], told["rejects"]) == (8, {"bad-feature": 2})
    opened = Gallery.open(str(tmp_path / "g"))
    assert opened.row_ids().tolist() == [0, 1, 3, 4, 5, 6, 8, 9]
    assert opened.rejects()["path"].to_pylist() == ["0002.jpg", "0007.jpg"]
    assert opened.rejects()["detail"].to_pylist() == [
        "the network gave a vector of length 0", "the network gave NaN",
    ]  # fmt: skip


def test_an_interrupted_import_goes_on(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(interchange, "MAX_UNIT_ROWS", 4)
    folder = tmp_path / "features"
    folder.mkdir()
    features = people(3, 10)[0]
    for row in range(10):
        np.save(folder / f"{row:04d}.npy", features[row])
    np.save(folder / "0009.npy", features[9][:5])
    flags = ("import", folder, "--gallery", tmp_path / "g", "--format", "fast-reid", *MADE)
    line = refused(capsys, *flags, status=1)
    assert "0009.npy has 5 dimensions, and 0000.npy 24" in line
    (folder / "0009.npy").write_bytes(b"no array")
    assert "nothing was imported: mend the file" in refused(capsys, *flags, status=1)
    np.save(folder / "0009.npy", features[9])
    assert result(capsys, *flags)["rows"] == 10
    np.testing.assert_allclose(features_of(tmp_path / "g"), features, atol=1e-6)


@pytest.mark.parametrize("format_", ["npy", "mat", "fast-reid"])
def test_a_finished_import_is_left_as_it_is(capsys, sides, mat, tmp_path, format_):
    """And an import of other features or labels into the same place is refused."""
    source = {"npy": tmp_path / "f.npy", "mat": mat, "fast-reid": tmp_path / "folder"}[format_]
    np.save(tmp_path / "f.npy", sides["gallery"][0])
    paths = [f"{row:03d}.jpg" for row in range(150)]
    (tmp_path / "rows.csv").write_text("\n".join(["path", *paths]))
    (tmp_path / "folder").mkdir()
    for row in range(5):
        np.save(tmp_path / "folder" / f"{row}.npy", sides["gallery"][0][row])
    flags = ("import", source, "--gallery", tmp_path / "g", "--format", format_, *MADE)
    told = result(capsys, *flags)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "g").rglob("0*")}
    assert result(capsys, *flags) == told
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "g").rglob("0*")} == before
    if format_ == "npy":
        (tmp_path / "rows.csv").write_text("\n".join(["path", "other.jpg", *paths[1:]]))
    elif format_ == "fast-reid":
        np.save(source / "0.npy", sides["gallery"][0][7])
    else:
        result(capsys, "erase", "--gallery", tmp_path / "g", "--ids", 3)
    assert "of other features or changed since it was imported" in refused(capsys, *flags)


def test_another_import_does_not_go_on_with_what_one_began(capsys, sides, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "0.npy", sides["gallery"][0][0])
    np.save(tmp_path / "a" / "1.npy", sides["gallery"][0][0][:5])
    flags = ("--gallery", tmp_path / "g", "--format", "fast-reid", *MADE)
    refused(capsys, "import", tmp_path / "a", *flags, status=1)
    assert "there is a gallery already" in refused(capsys, "import", tmp_path / "b", *flags)


def test_imported_features_never_mix(capsys, mat, gallery, tmp_path):
    query, _ = import_mat(capsys, mat, "query")
    other = tmp_path / "other"
    result(
        capsys, "import", mat, "--gallery", other, "--format", "mat", "--made-by", "fast-reid"
    )  # fmt: skip
    for second, told in ((gallery, "imported: layumi ft_ResNet50 here, none there"), (
        other, "imported: layumi ft_ResNet50 here, fast-reid there"),
    ):  # fmt: skip
        flags = ("--query", query, "--gallery", second, "--out", tmp_path / "r")
        line = refused(capsys, "evaluate", *flags)
        assert "features of two recipes are never compared" in line
        assert told in line
        flags = (*flags[:4], "--out", tmp_path / "e", "--format", "mat")
        assert told in refused(capsys, "export", *flags)
    info = result(capsys, "info", "--gallery", query)
    assert info["recipe"] == {"imported": "layumi ft_ResNet50", "dimension": 24}
    assert result(capsys, "verify", "--gallery", query)["findings"] == []
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07" + bytes(20))
    flags = ("search", tmp_path / "x.jpg", "--gallery", query, "--model", tmp_path / "net.onnx")
    assert "holds imported features (layumi ft_ResNet50)" in refused(capsys, *flags)


def test_a_gallery_that_is_there_is_left_alone(capsys, mat, gallery):
    import_mat(capsys, mat, "query")
    flags = ("import", mat, "--format", "mat", *MADE)
    for place in (mat.with_name("query"), gallery):
        assert "there is a gallery already" in refused(capsys, *flags, "--gallery", place)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held.pop("gallery_cam"), "has no gallery_cam; it holds gallery_f"),
        (lambda held: held.update(gallery_label=[1, 2]), "2 numbers in gallery_label do not go"),
        (lambda held: held.update(gallery_label=[1.5] * 3), "other than whole numbers"),
        (lambda held: held.update(gallery_label=[1, np.inf, 2]), "other than whole numbers"),
        (
            lambda held: held.update(gallery_cam=[1, np.nan, 2]),
            "gallery_cam holds other than whole",
        ),
        (lambda held: held.update(gallery_cam=[1, 1.5, 2]), "gallery_cam holds other than whole"),
        (lambda held: held.update(gallery_f=np.ones((3, 2), int)), "features are floats [N, D]"),
    ],
)
def test_a_mat_file_that_does_not_fit(capsys, tmp_path, change, message):
    held = {"gallery_f": np.eye(3), "gallery_label": [1, 2, 3], "gallery_cam": [1, 1, 2]}
    change(held)
    scipy.io.savemat(tmp_path / "x.mat", held)
    flags = ("--gallery", tmp_path / "g", "--format", "mat", *MADE)
    assert message in refused(capsys, "import", tmp_path / "x.mat", *flags)
    assert not (tmp_path / "g").exists()


def test_a_file_of_another_kind(capsys, tmp_path):
    (tmp_path / "x.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(64))
    (tmp_path / "y.mat").write_bytes(b"no such file" * 20)
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "flat.npy", np.ones(4, np.float32))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "nothing.npy").touch()
    for name, format_, message in (
        ("x.mat", "mat", "is a MATLAB 7.3 file"),
        ("y.mat", "mat", "cannot be read as a .mat file"),
        ("empty", "fast-reid", "holds no .npy file"),
        ("x.mat", "fast-reid", "is not a folder"),
        ("flat.npy", "npy", "features are floats [N, D]"),
        ("text.npy", "npy", "cannot be read as an array"),
        ("nothing.npy", "npy", "cannot be read as an array"),
        ("none.npy", "npy", "no such file"),
    ):
        flags = ("--gallery", tmp_path / "g", "--format", format_, *MADE)
        assert message in refused(capsys, "import", tmp_path / name, *flags)
    assert not (tmp_path / "g").exists()
    (tmp_path / "empty" / "fast-reid").mkdir()
    flags = ("--gallery", tmp_path / "g", "--format", "fast-reid", *MADE)
    assert "give that" in refused(capsys, "import", tmp_path / "empty", *flags)


@pytest.mark.parametrize("format_", ["npy", "fast-reid"])
@pytest.mark.parametrize("content", [b"", b"1,2\n", b"PK\x03\x04", b"\x80\x04", b"\x93NUMPY\x01"])
def test_a_file_that_is_no_array(capsys, tmp_path, format_, content):
    path = tmp_path / "files" / "a.npy"
    path.parent.mkdir()
    path.write_bytes(content)
    flags = ("--gallery", tmp_path / "g", "--format", format_, *MADE)
    source = path if format_ == "npy" else path.parent
    line = refused(capsys, "import", source, *flags)
    assert f"{path} cannot be read as an array: " in line
    assert "pickle" not in line


def test_rows_that_do_not_fit(capsys, tmp_path):
    source = npy(tmp_path, people(3, 10)[0])
    flags = ("import", source, "--gallery", tmp_path / "g", "--format", "npy", *MADE)
    assert "does not fit layout market1501" in refused(capsys, *flags, "--layout", "market1501")
    assert "no such file; give the table" in refused(capsys, *flags, "--rows", tmp_path / "no.csv")
    assert "must end in .csv or .parquet" in refused(capsys, *flags, "--rows", source)
    np.save(source, people(3, 11)[0])
    assert "11 features, but there are 10 rows of labels" in refused(capsys, *flags)
    flags = (*flags[:4], "--format", "mat", *MADE, "--rows", tmp_path / "rows.csv")
    assert "--rows goes with --format npy and faiss" in refused(capsys, *flags)
    flags = ("import", source, "--gallery", tmp_path / "g", "--format", "npy", "--made-by", " ")
    np.save(source, people(3, 10)[0])
    assert "--made-by is empty" in refused(capsys, *flags)
    assert not (tmp_path / "g").exists()


def test_more_than_a_mat_file_holds_is_refused(capsys, gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(mat_files, "LARGEST_MAT", 60 * 24 * 4)
    flags = ("--gallery", gallery, "--query", gallery, "--out", tmp_path / "o", "--format", "mat")
    line = refused(capsys, "export", *flags)
    assert "below 4 GiB: take --format npy" in line
    assert not (tmp_path / "o").exists()
    monkeypatch.setattr(mat_files, "LARGEST_MAT", 60 * 24 * 4 + 1)
    result(capsys, "export", *flags)


def test_query_goes_with_mat(capsys, gallery, tmp_path):
    flags = ("export", "--gallery", gallery, "--out", tmp_path / "o", "--format")
    assert "give --query too" in refused(capsys, *flags, "mat")
    assert "--query goes with --format mat" in refused(capsys, *flags, "npy", "--query", gallery)
    assert not (tmp_path / "o").exists()


def test_an_index_that_is_not_flat(capsys, tmp_path):
    faiss = pytest.importorskip("faiss")
    hashed = faiss.IndexLSH(8, 16)
    faiss.write_index(hashed, str(tmp_path / "lsh.faiss"))
    faiss.write_index(faiss.IndexFlatIP(8), str(tmp_path / "empty.faiss"))
    (tmp_path / "text.faiss").write_text("no index")
    for name, message in (
        ("lsh.faiss", "IndexLSH: only a flat index"),
        ("empty.faiss", "holds no feature"),
        ("text.faiss", "is not a faiss index"),
    ):
        flags = ("--gallery", tmp_path / "g", "--format", "faiss", *MADE)
        assert message in refused(capsys, "import", tmp_path / name, *flags)


def test_without_faiss_the_way_on_is_told(capsys, gallery, tmp_path, monkeypatch):
    real = importlib.import_module

    def missing(name, *rest):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    flags = ("--gallery", gallery, "--out", tmp_path / "o", "--format", "faiss")
    assert "pip install faiss-cpu" in refused(capsys, "export", *flags)
    assert not (tmp_path / "o").exists()


def test_the_recipe_stands_in_the_gallery(capsys, mat):
    place, told = import_mat(capsys, mat, "gallery", "--storage", "float16")
    opened = Gallery.open(str(place))
    assert json.loads(opened.recipe_json)["imported"] == "layumi ft_ResNet50"
    assert (opened.fingerprint, opened.dtype) == (told["fingerprint"], "float16")


def test_labels_of_another_tools_table_are_read_as_by_extract(capsys, tmp_path):
    np.save(tmp_path / "f.npy", np.eye(3, 4, dtype=np.float32))
    (tmp_path / "rows.csv").write_text("file,pid,camera\na.jpg,0,c1\nb.jpg,1,01\nc.jpg,unk,?\n")
    flags = ("--columns", "path=file", "identity=pid", "--first-identity", 0)
    place = tmp_path / "g"
    command = ("import", tmp_path / "f.npy", "--gallery", place, "--format", "npy", *MADE)
    result(capsys, *command, *flags)
    made = Gallery.open(str(place))
    rows = made.rows(["identity", "camera"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(1, "1"), (2, "1"), (None, None)]
    assert made.properties["layout"].startswith("none, first_identity 0, columns path=file")


def test_settings_of_labels_that_an_import_has_no_use_for_are_refused(capsys, mat, tmp_path):
    command = ("import", mat, "--gallery", tmp_path / "g", *MADE, "--format")
    assert "--only would leave" in refused(capsys, *command, "npy", "--only", "split=query")
    assert "a .mat file holds labels as numbers" in refused(
        capsys, *command, "mat", "--first-identity", 0
    )


# the recipe of an export


@pytest.fixture
def extracted(capsys, tmp_path):
    """A gallery of crops, its network and another one."""
    source = save_source(tmp_path / "source", 12)
    network, other = save_network(tmp_path).path, tmp_path / "other.pt"
    torch.jit.script(torch.nn.Sequential(Tiny(), torch.nn.Tanh()).eval()).save(str(other))
    flags = ("--gallery", tmp_path / "g", *SIZE)
    result(capsys, "extract", source, "--model", network, *flags)
    return tmp_path / "g", source, network, other


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_what_was_exported_comes_back_with_its_recipe(capsys, extracted, tmp_path, storage):
    gallery, source, network, other = extracted
    result(capsys, "export", gallery, "--out", tmp_path / "out")
    back = ("--gallery", tmp_path / "back")
    file = tmp_path / "out" / "features.npy"
    flags = ("import", file, *back, "--format", "npy", "--storage", storage)
    told = result(capsys, *flags)
    assert (told["made_by"], told["rows"]) == (None, 12)
    assert result(capsys, *flags) == told
    _, out, _ = run(capsys, *flags)
    assert "with the recipe of the gallery that was exported" in out
    before, after = (Gallery.open(str(each)) for each in (gallery, tmp_path / "back"))
    assert after.rows().equals(before.rows())
    if storage == "float32":
        assert after.array().tobytes() == before.array().tobytes()
    assert {n: v for n, v in after.properties.items() if n != "dtype"} == {
        n: v for n, v in before.properties.items() if n != "dtype"
    }
    assert result(capsys, "verify", *back)["findings"] == []
    again = ("extract", source, *back, *SIZE)
    told = result(capsys, *again, "--model", network)
    assert (told["unchanged"], told["version"]) == (12, 1)
    assert "was made with another recipe" in refused(capsys, *again, "--model", other)
    crop = next(iter(Path(source).iterdir()))
    search = ("search", crop, *back, "--model")
    assert result(capsys, *search, network)["results"][0]["hits"][0]["score"] > 0.99
    assert "is not the network of" in refused(capsys, *search, other)


def test_every_format_keeps_the_recipe(capsys, extracted, tmp_path):
    gallery, *_ = extracted
    wanted = Gallery.open(str(gallery)).fingerprint
    for form, name, flags in (
        ("faiss", "gallery.faiss", ()),
        ("fast-reid", "fast-reid", ()),
        ("mat", "pytorch_result.mat", ("--query", gallery)),
    ):
        if form == "faiss" and importlib.util.find_spec("faiss") is None:
            continue
        out = tmp_path / form
        result(capsys, "export", gallery, "--out", out, "--format", form, *flags)
        for part in ("query", "gallery") if form == "mat" else ("gallery",):
            place = tmp_path / f"{form}-{part}"
            given = ("--gallery", place, "--format", form, "--part", part)
            assert result(capsys, "import", out / name, *given)["fingerprint"] == wanted
            np.testing.assert_allclose(features_of(place), features_of(gallery), atol=1e-7)


def test_an_expanded_gallery_comes_back_as_one(capsys, gallery, tmp_path):
    expanded = ("expand", gallery, "-k", 2, "--out")
    result(capsys, *expanded, tmp_path / "e")
    result(capsys, "export", tmp_path / "e", "--out", tmp_path / "out")
    flags = ("--format", "npy", "--gallery", tmp_path / "back")
    result(capsys, "import", tmp_path / "out" / "features.npy", *flags)
    before, after = (Gallery.open(str(tmp_path / each)) for each in ("e", "back"))
    assert (before.fingerprint, before.properties["derived"]) == (
        after.fingerprint, after.properties["derived"],
    )  # fmt: skip
    normalized = tmp_path / "n"
    result(capsys, *expanded, normalized, "--camera-normalize", "mean")
    result(capsys, "export", normalized, "--out", tmp_path / "no")
    flags = ("import", tmp_path / "no" / "features.npy", *flags[:2], "--gallery", tmp_path / "x")
    assert "statistics that no export has" in refused(capsys, *flags)


def test_features_that_are_not_as_exported_need_a_maker(capsys, extracted, tmp_path):
    gallery, *_ = extracted
    out = tmp_path / "out"
    result(capsys, "export", gallery, "--out", out)
    file, about = out / "features.npy", out / "gallery.json"
    flags = ("import", file, "--gallery", tmp_path / "back", "--format", "npy")
    told = json.loads(about.read_text())

    def says(message, **changes):
        about.write_text(json.dumps(told | changes))
        assert message in refused(capsys, *flags)
        about.write_text(json.dumps(told))

    says("the export was cut off; export again", complete=False)
    says("recipe, fingerprint and dimension do not fit", fingerprint="0" * 64)
    about.write_text(json.dumps({n: v for n, v in told.items() if n != "storage"}))
    assert "this is not what an export writes" in refused(capsys, *flags)
    says("nothing beside", features={})
    says("nothing beside", regallery_export=2)
    labels = ("--layout", "market1501")
    assert "leave out --layout" in refused(capsys, *flags, *labels)
    rows = (out / "rows.csv").read_text()
    (out / "rows.csv").write_text(rows.replace("identity", "person", 1))
    assert "cannot be read as the rows of an export" in refused(capsys, *flags)
    (out / "rows.csv").write_text(rows + rows.splitlines()[-1] + "\n")
    assert "a path is missing, or comes twice" in refused(capsys, *flags)
    (out / "rows.csv").unlink()
    assert "no such file" in refused(capsys, *flags)
    (out / "rows.csv").write_text(rows)
    np.save(file, np.load(file)[:, ::-1])
    assert "is not as it was exported (SHA-256)" in refused(capsys, *flags)
    assert not (tmp_path / "back").exists()
    status, _, err = run(capsys, *flags, "--made-by", "mine")
    assert (status, "leave out --made-by to keep the recipe" in err) == (0, True)
    assert Gallery.open(str(tmp_path / "back")).fingerprint != told["fingerprint"]
    result(capsys, "export", gallery, "--out", out, "--safe-csv")
    assert "nothing beside" in refused(capsys, *flags)
