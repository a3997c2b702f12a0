"""Drawn passages: names, times, people who pass together, and what is refused."""

from collections import defaultdict

import pytest

from pipeline.archive.drawn.passages import PASSAGE_LAYOUT, PassageCounts, draw_passages
from pipeline.archive.listing.source import list_source
from pipeline.errors import InputError


def test_the_layout_reads_what_was_drawn(tmp_path):
    counts = draw_passages(tmp_path, identities=6, cameras=2, crops=3)
    rows = list_source(str(tmp_path), PASSAGE_LAYOUT).images.to_pylist()
    tracklets = defaultdict(list)
    for row in rows:
        tracklets[row["tracklet"]].append(row)
    assert counts == PassageCounts(6, 2, len(tracklets), len(rows))
    moments = defaultdict(set)
    for name, own in tracklets.items():
        assert len({(row["identity"], row["camera"]) for row in own}) == 1 and len(own) == 3
        assert len({row["captured_at"] for row in own}) == 3
        for row in own:
            moments[row["camera"], row["captured_at"]].add(name)
    assert max(map(len, moments.values())) == 4


def test_the_same_bytes_again_and_others_at_night(tmp_path):
    first, second, night = (tmp_path / name for name in ("first", "second", "night"))
    for root in (first, second):
        draw_passages(root, identities=4, cameras=2, crops=2)
    draw_passages(first, identities=4, cameras=2, crops=2)  # once more
    draw_passages(night, identities=4, cameras=2, crops=2, night=True)
    for file in first.rglob("*.jpg"):
        name = file.relative_to(first)
        assert file.read_bytes() == (second / name).read_bytes() != (night / name).read_bytes()


@pytest.mark.parametrize("counts", [{"identities": 3}, {"cameras": 1}, {"crops": 1}])
def test_too_few(tmp_path, counts):
    with pytest.raises(InputError, match="a drawn archive needs"):
        draw_passages(tmp_path / "a", **counts)
    assert not (tmp_path / "a").exists()


def test_a_folder_with_other_pictures_is_refused(tmp_path):
    (tmp_path / "mine.jpg").write_bytes(b"picture")
    with pytest.raises(InputError, match=r"mine.jpg is not part of the archive"):
        draw_passages(tmp_path, identities=4, cameras=2, crops=2)
