import hashlib
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageChops

from pipeline.archive.drawn.cameras import set_up
from pipeline.archive.drawn.crops import begin_walk, draw_crop
from pipeline.archive.drawn.drawing import ArchiveCounts, draw_archive
from pipeline.archive.drawn.people import dress
from pipeline.errors import InputError

NETWORK = Path(__file__).resolve().parents[3] / "jobs" / "demo_network" / "demo.onnx"
NAME = re.compile(r"(-1|\d{4,})_c(\d+)s\d+_(\d{6})_(\d\d)\.jpg")
SMALL = {"identities": 6, "cameras": 3, "crops_per_camera": 2, "distractors": 6, "junk": 4}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ArchiveCounts]:
    root = tmp_path_factory.mktemp("small")
    return root, draw_archive(root, **SMALL)


def files(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.glob("*/*")}


def labels(root: Path, folder: str) -> list[tuple[int, int]]:
    found = [NAME.fullmatch(file.name) for file in sorted((root / folder).iterdir())]
    assert all(found)
    return [(int(match[1]), int(match[2])) for match in found if match]


def pixels(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).resize((24, 48), Image.Resampling.BOX)
    return np.asarray(image, np.float64)


def test_counts_are_what_lies_in_the_folders(small):
    root, counts = small
    query, gallery = labels(root, "query"), labels(root, "bounding_box_test")
    assert counts == ArchiveCounts(6, 3, len(query), len(gallery), 6, 4)
    assert [identity for identity, _ in gallery].count(0) == 6
    assert [identity for identity, _ in gallery].count(-1) == 4
    assert len(gallery) == 2 * len(query) + 6 + 4


def test_each_query_stands_for_one_identity_and_camera_and_has_a_match_elsewhere(small):
    root, _ = small
    query, gallery = labels(root, "query"), labels(root, "bounding_box_test")
    assert len(set(query)) == len(query)
    assert {identity for identity, _ in query} == set(range(1, 7))
    for identity, camera in query:
        assert gallery.count((identity, camera)) == 2
        assert any(i == identity and c != camera for i, c in gallery)


def test_not_every_identity_meets_every_camera(tmp_path):
    counts = draw_archive(tmp_path, identities=12, crops_per_camera=1, distractors=0, junk=0)
    assert 2 * 12 <= counts.queries < 4 * 12
    assert {camera for _, camera in labels(tmp_path, "query")} == {1, 2, 3, 4}


def test_every_file_is_a_whole_jpeg_and_sizes_vary(small):
    root, _ = small
    sizes = set()
    for file in root.glob("*/*"):
        with Image.open(file) as image:
            image.load()
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert image.height > image.width >= 16
            sizes.add(image.size)
    assert len(sizes) > 10


def test_another_process_draws_the_same_bytes(tmp_path):
    few = SMALL | {"identities": 2}
    draw_archive(tmp_path / "again", **few)
    drawn = files(tmp_path / "again")
    code = (
        "import sys; from pathlib import Path;"
        "from pipeline.archive.drawn.drawing import draw_archive;"
        f"draw_archive(Path(sys.argv[1]), **{few!r})"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "other")], check=True)
    assert files(tmp_path / "other") == drawn


def test_a_crop_depends_on_its_own_identity_alone(small, tmp_path):
    root, _ = small
    draw_archive(tmp_path, **(SMALL | {"identities": 2, "first_identity": 3, "junk": 0}))
    alone, among = files(tmp_path), files(root)
    assert {name.split("/")[1][:4] for name in alone} == {"0000", "0003", "0004"}
    assert all(among[name] == data for name, data in alone.items())


def test_a_second_run_leaves_the_files_alone_and_mends_a_torn_one(small):
    root, _ = small
    before = files(root)
    torn, *others = sorted(root.glob("query/*"))
    torn.write_bytes(torn.read_bytes()[:50])
    times = [file.stat().st_mtime_ns for file in others]
    draw_archive(root, **SMALL)
    assert files(root) == before
    assert [file.stat().st_mtime_ns for file in others] == times


def test_no_two_crops_are_equal_and_another_seed_draws_other_people(small, tmp_path):
    root, _ = small
    drawn = files(root)
    draw_archive(tmp_path, **SMALL, seed=1)
    digests = {hashlib.sha256(data).digest() for data in drawn.values()}
    assert len(digests) == len(drawn)
    assert not digests & {hashlib.sha256(data).digest() for data in files(tmp_path).values()}


def test_people_differ_in_what_can_be_seen_of_them():
    people = [dress(0, identity) for identity in range(1, 65)]
    assert len({(p.upper, p.lower, p.shoes, p.build) for p in people}) == 64
    for part in ("hair_style", "hat", "garment", "pattern", "bottom", "bag"):
        assert len({getattr(p, part) for p in people}) >= 3


def test_every_camera_records_in_a_way_of_its_own():
    cameras = [set_up(0, number) for number in range(1, 5)]
    for i, camera in enumerate(cameras):
        for other in cameras[:i]:
            assert abs(camera.curve - other.curve).max() > 10
            assert camera.noise != other.noise
            assert camera.blur != other.blur
            assert ImageChops.difference(camera.backdrop, other.backdrop).getbbox()


def test_a_crop_carries_the_light_and_cast_of_its_camera():
    cameras = [replace(set_up(0, number), backdrop=set_up(0, 1).backdrop) for number in (1, 2)]
    walk = begin_walk(np.random.default_rng(0))
    bright, blue = (
        pixels(draw_crop(None, camera, walk, np.random.default_rng(0))).mean(axis=(0, 1))
        for camera in cameras
    )
    assert bright.mean() > blue.mean() + 10
    assert bright[0] / bright[2] > blue[0] / blue[2] + 0.1


def test_an_archive_is_labeled_from_its_first_identity(tmp_path):
    draw_archive(tmp_path, **(SMALL | {"identities": 2, "first_identity": 9999, "distractors": 0}))
    assert {identity for identity, _ in labels(tmp_path, "query")} == {9999, 10000}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("identities", 0),
        ("cameras", 1),
        ("crops_per_camera", 0),
        ("distractors", -1),
        ("junk", -1),
        ("seed", -1),
        ("first_identity", 0),
    ],
)
def test_counts_out_of_range_are_refused_before_anything_is_written(tmp_path, name, value):
    with pytest.raises(InputError, match=f"{name} is {value}"):
        draw_archive(tmp_path / "new", **(SMALL | {name: value}))
    assert not (tmp_path / "new").exists()


def test_a_folder_with_other_files_is_refused(tmp_path):
    stranger = tmp_path / "query" / "holiday.jpg"
    stranger.parent.mkdir()
    stranger.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"holiday\.jpg"):
        draw_archive(tmp_path, **SMALL)
    assert [file.name for file in tmp_path.rglob("*")] == ["query", "holiday.jpg"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="taken is a file"):
        draw_archive(tmp_path / "taken", **SMALL)


def features(root: Path, folder: str) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(NETWORK), options)
    _, _, height, width = session.get_inputs()[0].shape
    crops = [
        np.asarray(Image.open(file).resize((width, height), Image.Resampling.BICUBIC), np.float32)
        for file in sorted((root / folder).iterdir())
    ]
    batch = (np.stack(crops) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    batch = batch.transpose(0, 3, 1, 2).astype(np.float32)
    (rows,) = session.run(None, {session.get_inputs()[0].name: batch})
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_demo_network_is_small_and_takes_any_batch():
    assert NETWORK.stat().st_size <= 1_000_000
    session = onnxruntime.InferenceSession(str(NETWORK))
    shape = session.get_inputs()[0].shape
    assert isinstance(shape[0], str)
    assert shape[1:] == [3, 128, 64]
    for batch in (1, 5):
        (rows,) = session.run(None, {"images": np.zeros((batch, 3, 128, 64), np.float32)})
        assert rows.shape == (batch, 128)
        assert rows.dtype == np.float32


def test_the_demo_network_tells_unseen_people_apart_across_cameras(tmp_path):
    draw_archive(tmp_path, identities=12, crops_per_camera=1, distractors=0, junk=0, seed=987)
    rows, found = features(tmp_path, "query"), np.array(labels(tmp_path, "query"))
    identity, camera = found.T
    scores = rows @ rows.T
    elsewhere = camera[:, None] != camera
    same = identity[:, None] == identity
    positive, negative = scores[same & elsewhere], scores[~same & elsewhere]
    assert np.mean(positive[:, None] > negative) > 0.9  # the area under the ROC curve
    scores[~elsewhere] = -1
    nearest = identity[scores.argmax(axis=1)]
    assert np.mean(nearest == identity) > 0.6  # chance is 1 in 12
