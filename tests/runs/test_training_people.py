"""Who is trained on: by labels, and by verdicts of a gallery of the same source."""

from dataclasses import replace

import pyarrow as pa
import pytest

from pipeline.archive.listing.source import Listing
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.errors import InputError
from pipeline.runs.training_people import labeled_people
from pipeline.runs.verdicts import give_verdict
from pipeline.schemas import REJECT_SCHEMA
from tests.core.strategies import unit_rows
from tests.jobs.labeled import labeled_gallery


@pytest.fixture
def gallery(tmp_path):
    """A row for each of the images 1 to 7, and for another one."""
    paths = [f"{n}.jpg" for n in (1, 2, 3, 4, 5, 6, 7, 99)]
    return labeled_gallery(
        tmp_path / "g", unit_rows(8, 4, seed=0), [None] * 8, ["1"] * 8, path=paths
    )


def listing_of(gallery, *identity):
    n = len(identity)
    columns = {"path": [f"{place}.jpg" for place in range(n)], "identity": identity}
    arrays = [pa.array(columns.get(each.name, [None] * n), each.type) for each in MANIFEST_SCHEMA]
    images = pa.table(arrays, schema=MANIFEST_SCHEMA)
    return Listing(gallery.properties["source"], images, REJECT_SCHEMA.empty_table(), {})


@pytest.fixture
def listing(gallery):
    return listing_of(gallery, 7, 7, 3, 9, None, None, 0, -1)


def people(found):
    images = found.listing.images
    return dict(zip(images["path"].to_pylist(), images["identity"].to_pylist(), strict=True))


def test_without_verdicts_labels_decide(listing, gallery):
    for verdicts in (None, gallery):
        found = labeled_people(listing, verdicts)
        assert people(found) == {"0.jpg": 7, "1.jpg": 7, "2.jpg": 3, "3.jpg": 9}
        assert (found.identities_merged, found.crops_identified) == (0, 0)
        left = found.left_out
        assert (left.junk, left.distractors, left.unknown, left.rejected) == (1, 1, 2, 0)


def test_verdicts_join_people_and_images_without_one(listing, gallery):
    """Image 0 has no row, but the label of image 1; image 4 connects 1 and 2."""
    for a, b in ((1, 4), (4, 2), (5, 99)):
        give_verdict(gallery, f"{a}.jpg", f"{b}.jpg", "same", who="a")
    give_verdict(gallery, "3.jpg", "6.jpg", "different", who="a")
    found = labeled_people(listing, gallery)
    assert people(found) == {"0.jpg": 3, "1.jpg": 3, "2.jpg": 3, "3.jpg": 9, "4.jpg": 3}
    assert (found.identities_merged, found.crops_identified) == (1, 1)
    left = found.left_out
    assert (left.junk, left.distractors, left.unknown) == (1, 1, 1)


def test_verdicts_against_labels_are_refused(listing, gallery):
    give_verdict(gallery, "2.jpg", "3.jpg", "different", who="a")
    labeled_people(listing, gallery)
    give_verdict(gallery, "2.jpg", "1.jpg", "same", who="a")
    labeled_people(listing, gallery)
    others = listing_of(gallery, 7, 7, 3, 7)
    with pytest.raises(InputError, match=r"2.jpg and 3.jpg show different people, but both are of"):
        labeled_people(others, gallery)
    with pytest.raises(InputError, match="its paths mean other crops"):
        labeled_people(replace(listing, root="/elsewhere"), gallery)


def test_nobody_is_known(gallery):
    with pytest.raises(InputError, match="no image has an identity"):
        labeled_people(listing_of(gallery, None, 0, -1), gallery)
