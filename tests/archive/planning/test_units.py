import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.archive.planning.units import PLAN_SCHEMA, Unit, plan_units, unit_id, units
from pipeline.errors import InputError
from tests.archive.sources import tables_of

T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def manifest(paths, size=10, identity=1):
    rows = [
        {"path": path, "size": size, "mtime": T0, "identity": identity, "camera": "1"}
        for path in sorted(paths)
    ]
    return pa.Table.from_pylist(rows, MANIFEST_SCHEMA)


names = st.sets(st.text("abc", min_size=1, max_size=4), max_size=30)


@given(names, st.integers(1, 9), st.integers(0, 99))
def test_every_image_stands_in_one_unit_with_its_own_row_id(paths, size, first):
    planned = plan_units(manifest(paths), "f", next_row_id=first, unit_size=size)
    assert planned.schema == PLAN_SCHEMA
    assert planned["path"].to_pylist() == sorted(paths)
    assert planned["row_id"].to_pylist() == list(range(first, first + len(paths)))
    cut = list(units(planned))
    assert [len(unit.members) for unit in cut[:-1]] == [size] * (len(cut) - 1)
    assert [row for unit in cut for row in unit.row_ids] == planned["row_id"].to_pylist()
    assert all(unit.id == unit_id(unit.members, "f") for unit in cut)


@given(names, names, st.integers(1, 5), st.integers(0, 9), st.booleans())
def test_an_interrupted_plan_goes_on_whatever_was_added_or_removed(
    before, after, size, first, mapped
):
    with tables_of(2 if mapped else None):
        left = plan_units(manifest(before), "f", next_row_id=first, unit_size=size)
        planned = plan_units(manifest(after), "f", next_row_id=first, unit_size=size, leftover=left)
    assert sorted(planned["path"].to_pylist()) == sorted(after)
    ids = planned["row_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    old = {unit.id: unit for unit in units(left)}
    for unit in units(planned):
        if unit.id in old:
            assert unit.members.equals(old[unit.id].members)
        else:
            assert unit.row_ids.start >= first + len(before)
    for unit in old.values():
        whole = set(unit.members["path"].to_pylist()) <= after
        assert whole == (unit.id in {each.id for each in units(planned)})


def test_an_unchanged_source_is_planned_as_before():
    images = manifest("abcdefg")
    left = plan_units(images, "f", unit_size=3)
    assert plan_units(images, "f", unit_size=2, leftover=left).equals(left)


def test_a_plan_that_was_committed_gives_no_row_id_again():
    """A kill between the commit and the end of the run leaves it; then its rows are erased."""
    images = manifest("abcde")
    left = plan_units(images, "f", unit_size=2)
    planned = plan_units(images, "f", next_row_id=5, unit_size=2, leftover=left)
    assert planned["row_id"].to_pylist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("change", [{"size": 11}, {"identity": 2}])
def test_a_changed_image_or_label_is_planned_anew(change):
    left = plan_units(manifest("abcd"), "f", unit_size=2)
    planned = plan_units(manifest("abcd", **change), "f", unit_size=2, leftover=left)
    assert planned["row_id"].to_pylist() == [4, 5, 6, 7]


def test_another_recipe_makes_other_units():
    left = plan_units(manifest("abcd"), "f", unit_size=2)
    planned = plan_units(manifest("abcd"), "g", unit_size=2, leftover=left)
    assert not set(planned["unit"].to_pylist()) & set(left["unit"].to_pylist())


def test_every_part_of_a_member_counts_for_the_name_and_chunks_do_not():
    members = plan_units(manifest(["ab", "c"]), "f").drop_columns(["unit"])
    name = unit_id(members, "f")
    assert unit_id(pa.concat_tables([members[:1], members[1:]]), "f") == name
    others = {name, unit_id(members, "g"), unit_id(members[:1], "f")}
    others.add(unit_id(plan_units(manifest(["a", "bc"]), "f"), "f"))
    for place, field in enumerate(members.schema):
        unknown = pa.nulls(2, field.type)
        kind = pa.string() if field.type == pa.string() else pa.int64()
        zero = pa.array(["", ""] if kind == pa.string() else [0, 0], kind).cast(field.type)
        for other in (unknown, zero):
            others.add(unit_id(members.set_column(place, field.name, other), "f"))
    # No two are the same, but for the columns that are unknown as they are.
    assert len(others) == 4 + 2 * len(members.schema) - 4


def test_halves_share_the_row_ids():
    (unit,) = units(plan_units(manifest("abcde"), "f", next_row_id=7))
    first, second = unit.halves("f")
    assert [*first.row_ids, *second.row_ids] == list(unit.row_ids)
    assert len({unit.id, first.id, second.id}) == 3
    with pytest.raises(InputError, match="cannot be halved"):
        Unit("x", unit.members[:1]).halves("f")


@pytest.mark.parametrize("size", [0, 2049])
def test_units_out_of_bounds_are_told(size):
    with pytest.raises(InputError, match="1 to 2048 images"):
        plan_units(manifest("a"), "f", unit_size=size)


def test_nothing_makes_no_unit():
    assert list(units(plan_units(manifest(""), "f"))) == []


def test_units_with_the_most_work_go_first():
    listed = manifest([f"{letter}{number}" for letter in "abcd" for number in range(2)])
    sizes = pa.array([9, 9, None, 100_001, 9, 9, 200_000, 1], pa.int64())
    listed = listed.set_column(listed.schema.get_field_index("size"), "size", sizes)
    cut = units(plan_units(listed.slice(0, 7), "f", unit_size=2))
    firsts = [unit.members["path"][0].as_py() for unit in cut.largest_first()]
    assert firsts == ["b0", "d0", "a0", "c0"]
    assert sorted(cut.largest_first().ids) == sorted(cut.ids)
    assert list(units(plan_units(listed.slice(0, 0), "f")).largest_first()) == []
