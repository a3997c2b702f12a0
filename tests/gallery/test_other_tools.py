"""Tables that another tool has changed: read right by all, or named with the way back."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, TableFeatures, write_deltalake

from pipeline.errors import InputError, RunError
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log import history
from pipeline.gallery.log import transactions as log
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.compact import compact
from pipeline.gallery.upkeep.leftovers import clean
from pipeline.gallery.upkeep.purge import purge
from pipeline.gallery.upkeep.verify import verify, verify_at
from tests.gallery.making import contents, expected, new_gallery, unit


@pytest.fixture
def gallery(tmp_path):
    """Two files: row ids 0 to 9 and 10 to 19."""
    gallery = new_gallery(tmp_path / "g")
    units = [unit(gallery.target, range(10)), unit(gallery.target, range(10, 20))]
    return gallery.commit(units, run_id="first")


def latest(gallery):
    return Gallery.open(gallery.location)


def table(gallery):
    return DeltaTable(gallery.location)


def some_rows(gallery, count, **columns):
    """The first rows, with other values in some columns."""
    rows = table(gallery).to_pyarrow_table().sort_by("row_id").slice(0, count)
    for name, values in columns.items():
        place = rows.schema.get_field_index(name)
        field = rows.schema.field(place)
        rows = rows.set_column(place, field, pa.array(values, field.type))
    return rows


def purged(gallery):
    with lock_gallery(gallery.location, "purge") as lock:
        return purge(latest(gallery), lock)


def partition(gallery):
    rows = some_rows(gallery, 20)
    write_deltalake(
        table(gallery), rows, mode="overwrite", schema_mode="overwrite", partition_by=["camera"]
    )


def number_below_zero(gallery):
    write_deltalake(table(gallery), some_rows(gallery, 1, row_id=[-3], path=["a"]), mode="append")


def turn_on_a_feature(gallery):
    table(gallery).alter.add_feature(
        TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (partition, "is partitioned by camera"),
        (number_below_zero, "has negative row ids"),
        (turn_on_a_feature, r"needs Delta reader 3 \(deletionVectors.*\)"),
    ],
)
def test_what_is_not_read_is_named_and_the_way_back_works(gallery, change, told):
    change(gallery)
    table(gallery).alter.set_table_properties({"delta.appendOnly": "false"})
    with pytest.raises(InputError, match=f"version 3 {told}.*go back to version 1") as refused:
        latest(gallery)
    statements = str(refused.value).partition("in Python: ")[2]
    exec(statements)
    back = latest(gallery)
    assert contents(back) == expected(range(20))
    assert contents(back.commit([], run_id="x", removes=[4])) == expected(set(range(20)) - {4})
    assert verify(latest(gallery)).findings == ()


def test_no_way_back_is_told_where_no_version_is_left(gallery):
    turn_on_a_feature(gallery)
    table(gallery).create_checkpoint()
    for version in (0, 1):
        (gallery._root / "_delta_log" / f"{version:020d}.json").unlink()
    with pytest.raises(InputError, match=r"version 2 needs.*no version before it is left: copy"):
        log.read_log(gallery._root)


@pytest.mark.parametrize("ending", ["clean", "purge"])
def test_a_log_that_begins_with_commits_of_another_tool_is_whole(gallery, ending):
    """Whose older versions, our last commit among them, were given up."""
    table(gallery).delete("row_id = 3")
    table(gallery).update(updates={"camera": "'z'"}, predicate="row_id = 4")
    table(gallery).optimize.compact()
    before = contents(latest(gallery))
    if ending == "purge":
        assert purged(gallery).rows_gone == 1
    else:
        with lock_gallery(gallery.location, "clean") as lock:
            clean(latest(gallery), lock, keep=1)
    assert contents(latest(gallery)) == before == expected(set(range(20)) - {3})
    found = verify(latest(gallery))
    assert (found.findings, found.other_commits) == ((), ("_delta_log/00000000000000000004.json",))
    after = latest(gallery).commit([], run_id="x", removes=[4])
    assert (verify(after).findings, after.count) == ((), 18)


def test_a_purge_looks_into_files_that_another_tool_set_aside(gallery):
    """Its texts and bytes are views, of which Arrow computes little."""
    table(gallery).delete("row_id = 3")
    latest(gallery).commit([], run_id="x", removes=[4, 5])
    assert (done := purged(gallery)).rows_gone == 3
    assert done.unreadable == ()
    assert contents(latest(gallery)) == expected(set(range(20)) - {3, 4, 5})
    assert verify(latest(gallery)).findings == ()


def test_a_purge_names_the_change_data_of_another_tool(gallery):
    table(gallery).alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    table(gallery).delete("row_id = 3")
    with pytest.raises(RunError, match=r"_change_data/\S+ holds a path, in the column path"):
        purged(gallery)


def test_row_ids_that_another_tool_gave_are_not_given_again(gallery):
    paths = [f"new/{n}.jpg" for n in range(3)]
    rows = some_rows(gallery, 3, row_id=[40, 41, 42], path=paths)
    write_deltalake(table(gallery), rows, mode="append")
    changed = latest(gallery)
    assert changed.next_row_id == 43
    assert [each.problem for each in verify(changed).findings] == [
        "row id 42 was never assigned (the next is 20)"
    ]
    changed.commit([], run_id="x", removes=[41])
    assert purged(gallery).rows_gone == 1
    after = latest(gallery)
    assert (verify(after).findings, after.next_row_id) == ((), 43)
    assert after.row_ids().tolist() == [*range(20), 40, 42]


def test_columns_that_another_tool_dropped_are_unknown(gallery):
    rows = some_rows(gallery, 20).drop_columns(["captured_at", "quality"])
    write_deltalake(table(gallery), rows, mode="overwrite", schema_mode="overwrite")
    changed = latest(gallery)
    assert contents(changed) == expected(range(20))
    assert changed.rows(["quality"])["quality"].null_count == 20
    after = changed.commit([], run_id="x", removes=[4])
    assert contents(after) == expected(set(range(20)) - {4})
    assert purged(gallery).rows_gone == 1
    assert verify(latest(gallery)).findings == ()


def test_a_column_of_the_key_that_another_tool_dropped_is_named(gallery):
    rows = some_rows(gallery, 20).drop_columns(["path"])
    write_deltalake(table(gallery), rows, mode="overwrite", schema_mode="overwrite")
    with pytest.raises(InputError, match=r"has no column path.*go back to version 1"):
        latest(gallery)


def test_compaction_writes_what_another_tool_wrote_anew_with_checksums(gallery):
    table(gallery).optimize.compact()
    assert verify(latest(gallery)).without_checksum == 1
    after = compact(latest(gallery))
    assert (verify(after).without_checksum, contents(after)) == (0, expected(range(20)))
    assert compact(after) == after
    assert np.array_equal(after.row_ids(), np.arange(20))


def clean_up_the_log(gallery):
    """As `deltalake` does by itself with what is older than 30 days."""
    retention = {"delta.logRetentionDuration": "interval 0 days"}
    table(gallery).alter.set_table_properties(retention)
    table(gallery).create_checkpoint()
    table(gallery).cleanup_metadata()


def log_of(gallery):
    return sorted(path.name for path in (gallery._root / "_delta_log").iterdir())


def test_a_log_that_another_tool_cleaned_up_is_read_from_its_checkpoint(gallery):
    table(gallery).delete("row_id = 3")
    clean_up_the_log(gallery)
    checkpoint = f"{3:020d}.checkpoint.parquet"
    assert log_of(gallery) == [checkpoint, f"{3:020d}.json", "_last_checkpoint"]
    [unneeded] = verify(latest(gallery)).findings
    assert "no version needs the file" in unneeded.problem
    with lock_gallery(gallery.location, "clean") as lock:
        clean(latest(gallery), lock)
    found = verify(latest(gallery))
    assert found.findings == ()
    assert f"_delta_log/{checkpoint}" in found.other_commits
    assert contents(latest(gallery)) == expected(set(range(20)) - {3})
    after = latest(gallery).commit([], run_id="x", removes=[4])
    assert verify(after, all_versions=True).findings == ()
    (after._root / "_delta_log" / checkpoint).write_bytes(b"PAR1 is not a checkpoint PAR1")
    assert [each.file for each in verify_at(gallery.location).findings] == [
        f"_delta_log/{checkpoint}"
    ]


def test_a_checkpoint_of_another_tool_is_named_and_covered_by_the_next_commit(gallery):
    table(gallery).create_checkpoint()
    checkpoint = f"_delta_log/{1:020d}.checkpoint.parquet"
    assert verify(latest(gallery)).other_commits == (checkpoint,)
    after = latest(gallery).commit([], run_id="x", removes=[4])
    found = verify(after, all_versions=True)
    assert (found.findings, found.other_commits) == ((), ())
    (gallery._root / checkpoint).unlink()
    assert [each.file for each in verify_at(gallery.location).findings] == [checkpoint]


def test_entries_that_are_gone_without_a_checkpoint_for_them_are_damage(gallery):
    table(gallery).create_checkpoint()
    after = latest(gallery).commit([unit(gallery.target, range(20, 25))], run_id="x")
    (after._root / "_delta_log" / f"{2:020d}.json").unlink()
    with pytest.raises(GalleryDamagedError, match=r"00002\.json: this entry of the log is gone"):
        latest(gallery)


def test_a_copy_of_a_checkpoint_is_damage(gallery):
    table(gallery).create_checkpoint()
    after = latest(gallery).commit([unit(gallery.target, range(20, 25))], run_id="x")
    folder, copied = after._root / "_delta_log", f"{2:020d}.checkpoint.parquet"
    shutil.copy(folder / f"{1:020d}.checkpoint.parquet", folder / copied)
    assert [each.file for each in verify_at(gallery.location).findings] == [f"_delta_log/{copied}"]


def test_the_history_tells_what_another_tool_added_and_removed(gallery):
    gallery = gallery.commit([unit(gallery.target, range(20, 23), rejected=[21])], run_id="second")
    table(gallery).delete("row_id in (3, 4)")
    table(gallery).update(updates={"camera": "'z'"}, predicate="row_id = 5")
    table(gallery).optimize.compact()
    paths = [f"new/{n}.jpg" for n in range(3)]
    rows = some_rows(gallery, 3, row_id=[40, 41, 42], path=paths)
    write_deltalake(table(gallery), rows, mode="append")
    write_deltalake(table(gallery), rows.slice(1), mode="overwrite")
    told = [(each.rows_added, each.rows_removed) for each in latest(gallery).history()]
    assert told == [(0, 0), (20, 0), (2, 0), (0, 2), (0, 0), (0, 0), (3, 0), (0, 21)]
    assert [each.reject_count for each in latest(gallery).history()] == [0, 0, 1, 1, 1, 1, 1, 1]
    assert [each.run_id for each in latest(gallery).history()][1:4] == ["first", "second", None]
    assert latest(gallery).history()[3].operation == "DELETE"


def test_the_history_counts_rows_where_files_of_older_versions_are_gone(gallery):
    table(gallery).delete("row_id in (3, 4)")
    table(gallery).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    told = [(each.rows_added, each.rows_removed) for each in latest(gallery).history()]
    assert told == [(0, 0), (20, 0), (0, 2), (0, 0), (0, 0)]
    partition(gallery)
    assert (history.versions(gallery._root, 5)[5].rows_removed) == 0


def test_every_copy_of_a_row_that_was_added_twice_can_be_erased(gallery):
    write_deltalake(table(gallery), some_rows(gallery, 2), mode="append")
    after = latest(gallery).commit([], run_id="x", removes=[0, 1])
    assert contents(after) == expected(range(2, 20))
    assert verify(after).findings == ()
    with pytest.raises(InputError, match="1 of 2 rows to be removed are not in this version"):
        after.commit([], run_id="y", removes=[0, 5])
