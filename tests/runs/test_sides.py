"""Two galleries side by side: cameras, places, and what looks wrong."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.evaluation.labels import NO_CAMERA, same_identity_pairs
from pipeline.errors import InputError
from pipeline.gallery.files.schema import encode_features
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.table import Gallery
from pipeline.model.recipe import Recipe
from pipeline.runs.sides import camera_names, open_sides, placed_labels, warn_of_odd_sides
from tests.gallery.making import rejects_table


def table(identity, camera):
    return pa.table(
        {
            "identity": pa.array(identity, pa.int64()),
            "camera": pa.chunked_array([pa.array(camera, pa.string())]),
        }
    )


def gallery(location, identity, camera, paths=None, layout="none"):
    recipe = Recipe(weights="0" * 64)
    made = Gallery.create(
        str(location), recipe_json=recipe.to_json(), fingerprint=recipe.fingerprint, dimension=4,
        source="/nowhere", layout=layout,
    )  # fmt: skip
    count = len(identity)
    values = {field.name: pa.nulls(count, field.type) for field in made.target.schema}
    values |= {
        "row_id": pa.array(range(count), pa.int64()),
        "path": pa.array(paths or [f"{number}.jpg" for number in range(count)]),
        "feature": encode_features(np.tile(np.float32([1, 0, 0, 0]), (count, 1))),
        **{name: table(identity, camera)[name].combine_chunks() for name in ("identity", "camera")},
    }
    rows = pa.table(values, schema=made.target.schema)
    unit = write_unit(made.target, "u0", range(count), rows, rejects_table([]))
    return made.commit([unit], run_id="add")


def sides(folder, query, rows, same_place=()):
    return open_sides(gallery(folder / "q", *query), gallery(folder / "g", *rows), same_place)


def test_all_spellings_of_a_camera_are_one_camera():
    one, other = placed_labels(
        [table([1] * 4, ["1.0", "c2", None, "?"]), table([1] * 3, ["01", "2", "north"])]
    )
    assert one.camera.tolist() == [0, 1, NO_CAMERA, NO_CAMERA]
    assert other.camera.tolist() == [0, 1, 2]


def test_cameras_of_one_place_are_one_place():
    first, second = placed_labels(
        [table([1, 1], ["2", "1"]), table([1, 1, 1], ["3", "1", "c2"])], ["2,3"]
    )
    assert first.camera.tolist() == [1, 0]
    assert second.camera.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("same_place", "message"),
    [
        (["2"], "`same_place`: '2' is not of the form 2,3"),
        (["2,"], "`same_place`: '2,' is not of the form 2,3"),
        (["2,3", "c3,1"], "`same_place` names camera 3 twice"),
        (["2,2"], "`same_place` names camera 2 twice"),
        (["7,8"], "`same_place`: no row is from camera 7, 8; there are 1, 2, 3"),
    ],
)
def test_places_without_meaning_are_refused(same_place, message):
    with pytest.raises(InputError, match=message):
        placed_labels([table([1] * 3, ["1", "2", "3"])], same_place)


def test_a_match_comes_from_another_place(tmp_path):
    query, rows = sides(tmp_path, ([1], ["2"]), ([1, 1], ["3", "1"]), ["2,3"])
    assert (query.labels.camera[0] == rows.labels.camera).tolist() == [True, False]
    assert list(camera_names(query, rows).values()) == ["1", "2+3"]


def test_two_sides_without_a_camera_in_common_are_told_with_both_lists(tmp_path, caplog):
    warn_of_odd_sides(*sides(tmp_path, ([1, 2], ["cam1", "cam2"]), ([1, 2, 2], ["1", "2", "3"])))
    assert "no camera in common" in caplog.text
    assert "has cam1, cam2, " in caplog.text
    assert "has 1, 2, 3" in caplog.text


def test_queries_that_match_nobody_and_swapped_sides_are_told(tmp_path, caplog):
    warn_of_odd_sides(*sides(tmp_path, ([0, None, 1, -1], ["1"] * 4), ([1, 2, 3], ["1", "2", "3"])))
    assert "2 queries of" in caplog.text
    assert "`first_identity` 0" in caplog.text
    assert "has 4 queries and" in caplog.text
    assert "are the two swapped?" in caplog.text


def test_usual_sides_are_told_nothing_of(tmp_path, caplog):
    query = ([1, 2], ["1", "2"])
    warn_of_odd_sides(*sides(tmp_path, query, ([1, 2, 0, -1], ["2", "1", "1", None])))
    assert caplog.text == ""


LTCC = ["test/017_{}_c{}_00000{}.png".format(*each) for each in [(1, 1, 1), (1, 2, 2), (2, 3, 3)]]


def test_a_match_shows_other_clothes_where_that_is_the_protocol(tmp_path):
    query = gallery(tmp_path / "q", [18], ["1"], LTCC[:1], "ltcc")
    rows = gallery(tmp_path / "g", [18] * 3, ["1", "2", "3"], [f"t.tar#{p}" for p in LTCC], "ltcc")
    for changed, junk in ((False, [True, False, False]), (True, [True, True, False])):
        first, second = open_sides(query, rows, clothes_changed=changed)
        found = same_identity_pairs(first.labels, second.labels)
        assert found[2].tolist() == junk
    other = gallery(tmp_path / "o", [18], ["1"])
    with pytest.raises(InputError, match=r"layout none of .* has no labels of clothes"):
        open_sides(other, rows, clothes_changed=True)
