"""An archive of 24 videos, as they really are: every box exactly once, also after a kill."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.gallery.table import Gallery
from pipeline.model.functions import NetworkFunction
from pipeline.runs.extraction import extract
from pipeline.runs.settings import WorkSettings
from tests.archive.video.making import decoded, mot, save_video

MEANS = NetworkFunction(
    lambda crops: [[*crop.mean((0, 1)), *crop[:8].mean((0, 1)), 1.0] for crop in crops], "means"
)
CODECS = {
    "h264": ("libx264", "yuv420p", {"g": "10", "bf": "2"}),
    "hevc": ("libx265", "yuv420p", {"x265-params": "keyint=10:log-level=none"}),
    "mjpeg": ("mjpeg", "yuvj420p", {}),
    "vp9": ("libvpx-vp9", "yuv420p", {"g": "10", "deadline": "realtime", "cpu-used": "8"}),
}
FRAMES = 36
STEPS = [20 + number * 7 % 60 for number in range(FRAMES - 1)]
START = datetime(2024, 5, 1, 8, tzinfo=UTC)


def boxes_of(seed):
    """Boxes of three tracks, one without area, and one of a frame that no video has."""
    rng = np.random.default_rng(seed)
    found = [
        (frame, track, *rng.integers(0, 80, 2).tolist(), *rng.integers(10, 40, 2).tolist())
        for frame in range(seed % 3, FRAMES, 3)
        for track in (1, 2, 3)
    ]
    return [*found, (5, 1, 10, 10, 0, 20), (FRAMES + 7, 3, 1, 1, 9, 9)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Of each codec a video of constant and one of variable rate, and one whose end is missing, at
    two sites; the boxes of each.
    """
    folder = tmp_path_factory.mktemp("archive")
    boxes, lines = {}, ["video,camera,started_at"]
    for codec, (name, pixels, options) in CODECS.items():
        made = {
            "constant": save_video(
                folder / f"{codec}.mkv", name, pixels, options, frames=FRAMES
            ).read_bytes(),
            "variable": save_video(
                folder / f"{codec}.mkv", name, pixels, options, steps=STEPS
            ).read_bytes(),
        }
        (folder / f"{codec}.mkv").unlink()
        made["tail"] = made["constant"][: len(made["constant"]) * 17 // 20]
        for site in ("north", "south"):
            for kind, data in made.items():
                video = f"{site}/{codec}-{kind}.mkv"
                (folder / video).parent.mkdir(exist_ok=True)
                (folder / video).write_bytes(data)
                boxes[video] = boxes_of(len(boxes))
                (folder / video).with_suffix(".txt").write_text(mot(boxes[video]))
                lines.append(f"{video},{site},{START.isoformat()}")
    (folder / "videos.csv").write_text("\n".join(lines))
    assert len(boxes) == 24
    return folder, boxes


def run(folder, out, **how):
    work = WorkSettings(max_rejects=1, unit_size=20)
    return extract(str(folder / "videos.csv"), str(out), MEANS, work=work, **how)


def contents(location):
    gallery = Gallery.open(str(location))
    rows = gallery.rows().to_pylist()
    return {row["path"]: (row, f.tobytes()) for row, f in zip(rows, gallery.array(), strict=True)}


def name_of(video, box):
    frame, _, *place = box
    return f"{video}#f={frame}&b={','.join(map(str, place))}"


@pytest.fixture(scope="module")
def whole(archive, tmp_path_factory):
    location = tmp_path_factory.mktemp("whole") / "g"
    run(archive[0], location)
    return location


def test_every_box_is_one_row_or_one_reject(archive, whole):
    folder, boxes = archive
    found = contents(whole)
    rejects = Gallery.open(str(whole)).rejects().to_pylist()
    reasons = {each["path"]: each["reason"] for each in rejects}
    wanted = {name_of(video, box) for video, some in boxes.items() for box in some}
    assert len(wanted) == sum(map(len, boxes.values()))
    assert {*found} | {*reasons} == wanted and not {*found} & {*reasons}
    for video, some in boxes.items():
        own = {path: reason for path, reason in reasons.items() if path.startswith(f"{video}#")}
        if "-tail" in video:
            lost = [reason for reason in own.values() if reason != "no-area"]
            assert {*lost} <= {"no-frame", "damaged-frame"} and 1 < len(lost) < len(some) - 3
            continue
        assert sorted(own.values()) == ["no-area", "no-frame"]
        frames = decoded(folder / video)
        for box in some[:-2:7]:
            frame, track, x, y, width, height = box
            row, feature = found[name_of(video, box)]
            crop = frames[frame][y : y + height, x : x + width]
            expected = np.array(MEANS([crop])[0], np.float64)
            np.testing.assert_allclose(
                np.frombuffer(feature, np.float32), expected / np.linalg.norm(expected), atol=1e-6
            )
            passed = sum(STEPS[:frame]) if "variable" in video else 40 * frame
            assert row["captured_at"] == START + timedelta(milliseconds=passed)
            site = video.partition("/")[0]
            assert row["tracklet"] == f"{video}#c={site}&t={track}"


class StoppedError(Exception):
    """Stands for a kill: nothing of the run is cleaned up."""


def test_killed_again_and_again_it_ends_with_the_same_rows(archive, whole, tmp_path):
    left = iter([2, 5, 9])

    def progress(*_):
        steps = iter(range(next(left, 10_000)))

        def step(count):
            if next(steps, None) is None:
                raise StoppedError

        return step

    resumed = 0
    for _ in range(3):
        with pytest.raises(StoppedError):
            run(archive[0], tmp_path / "g", progress=progress)
    done = run(archive[0], tmp_path / "g", progress=progress)
    resumed = done.units_resumed
    assert 0 < resumed < done.units
    features = [
        {path: feature for path, (_, feature) in contents(place).items()}
        for place in (tmp_path / "g", whole)
    ]
    assert features[0] == features[1]
