"""What galleries rely on in `deltalake`: a test each, so that an upgrade which changes one is
noticed.
"""

import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from pipeline.gallery.files.row_files import delta_statistics, write_row_file
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log import transactions as log
from pipeline.gallery.upkeep.restore import restore
from pipeline.gallery.upkeep.verify import verify
from tests.gallery.making import contents, expected, new_gallery, unit, unit_rows, unit_vectors


@pytest.fixture
def gallery(tmp_path):
    """Two files: row ids 0 to 9 and 10 to 19."""
    gallery = new_gallery(tmp_path / "g")
    units = [unit(gallery.target, range(10)), unit(gallery.target, range(10, 20))]
    return gallery.commit(units, run_id="first")


def raw_commit(table, actions, run="r", retries=0, next_row_id=99):
    table.create_write_transaction(
        actions,
        "append",
        table.schema(),
        commit_properties=CommitProperties(
            max_commit_retries=retries,
            app_transactions=[
                Transaction(run, 1),
                Transaction("regallery.next_row_id", next_row_id),
            ],
        ),
    )


def new_file(gallery, name, row_ids):
    path = gallery._root / name
    rows = unit_rows(gallery.target, list(row_ids), [f"{name}{row_id}" for row_id in row_ids])
    write_row_file(path, rows)
    statistics = delta_statistics(pq.read_metadata(path))
    return AddAction(name, path.stat().st_size, {}, 0, True, statistics)


def removal(gallery, file):
    return RemoveAction(file.path, True, 0, file.bytes, {})


def test_fixed_size_binary_under_a_binary_schema_is_read_by_all(gallery):
    table = DeltaTable(gallery.location)
    assert table.to_pyarrow_dataset().schema.field("feature").type == pa.binary()
    features = unit_vectors(range(20))

    scanned = pa.table(table.scan(columns=["row_id", "feature"]).read_all()).to_pydict()
    by_id = dict(zip(scanned["row_id"], scanned["feature"], strict=True))
    assert b"".join(by_id[row_id] for row_id in range(20)) == features.tobytes()

    dataset = table.to_pyarrow_dataset().to_table(columns=["row_id", "feature"]).sort_by("row_id")
    assert b"".join(dataset["feature"].to_pylist()) == features.tobytes()

    plain = ds.dataset(gallery.location, format="parquet").to_table().sort_by("row_id")
    assert plain["feature"].type == pa.binary(32)
    assert b"".join(plain["feature"].to_pylist()) == features.tobytes()


def test_a_condition_on_a_column_without_statistics_prunes_nothing(gallery):
    found = pa.table(
        DeltaTable(gallery.location)
        .scan(columns=["row_id"], predicate="path = 'c1/000013.jpg'")
        .read_all()
    )
    assert found["row_id"].to_pylist() == [13]


def test_files_are_pruned_by_row_id_and_camera(gallery):
    uris = DeltaTable(gallery.location).file_uris(file_pruning_predicate="row_id > 12")
    assert [uri.rpartition("/")[2] for uri in uris] == [gallery.snapshot.files[1].path]
    assert DeltaTable(gallery.location).file_uris(file_pruning_predicate="camera = 'z'") == []


def test_its_own_delete_makes_the_features_variable_and_loses_no_row(gallery):
    """Why replacements are ours; a table so changed is still read."""
    DeltaTable(gallery.location).delete("row_id = 3")
    table = DeltaTable(gallery.location)
    kinds = {pq.read_schema(uri).field("feature").type for uri in table.file_uris()}
    assert kinds == {pa.binary(32), pa.binary_view()}
    changed = type(gallery).open(gallery.location)
    assert contents(changed) == expected(set(range(20)) - {3})
    assert changed.next_row_id == 20


def test_its_own_compaction_is_read_too(gallery):
    DeltaTable(gallery.location).optimize.compact()
    changed = type(gallery).open(gallery.location)
    assert len(changed.snapshot.files) == 1
    assert contents(changed) == expected(range(20))
    assert contents(changed.commit([], run_id="x", removes=[4])) == expected(set(range(20)) - {4})


def test_rows_of_interleaving_files_are_in_row_id_order(gallery):
    added = [new_file(gallery, "b.parquet", [21, 23]), new_file(gallery, "a.parquet", [20, 22])]
    raw_commit(DeltaTable(gallery.location), added)
    changed = type(gallery).open(gallery.location)
    assert changed.row_ids().tolist() == list(range(24))
    assert changed.rows(["path"])["path"].to_pylist()[20:] == [
        "a.parquet20",
        "b.parquet21",
        "a.parquet22",
        "b.parquet23",
    ]
    assert changed.features().read(0, 24).tobytes() == unit_vectors(range(24)).tobytes()


def test_a_file_that_is_removed_can_be_removed_again_which_doubles_rows(gallery):
    """Why removals are taken from the files of a pinned version only."""
    file = gallery.snapshot.files[0]
    first = [removal(gallery, file), new_file(gallery, "a.parquet", range(1, 10))]
    raw_commit(DeltaTable(gallery.location), first, "a")
    again = [removal(gallery, file), new_file(gallery, "b.parquet", range(1, 10))]
    raw_commit(DeltaTable(gallery.location), again, "b")
    assert DeltaTable(gallery.location).count() == 10 + 9 + 9


def test_a_transaction_id_is_not_checked_by_a_later_commit(gallery):
    """Why `Gallery.commit` looks for the run's mark itself."""
    for _ in range(2):
        raw_commit(DeltaTable(gallery.location), [], "the same")
    assert DeltaTable(gallery.location).version() == gallery.version + 2


@pytest.mark.parametrize("retries", [0, 5])
def test_two_commits_with_the_same_mark_conflict(gallery, retries):
    """Why every commit writes the next row id."""
    early = DeltaTable(gallery.location)
    raw_commit(DeltaTable(gallery.location), [new_file(gallery, "a.parquet", [20])], "a")
    with pytest.raises(CommitFailedError):
        raw_commit(early, [new_file(gallery, "b.parquet", [21])], "b", retries)
    assert DeltaTable(gallery.location).version() == gallery.version + 1


def test_a_commit_without_marks_in_common_would_be_let_through(gallery):
    """The contrast to the test above: an append conflicts with nothing by itself."""
    early = DeltaTable(gallery.location)
    raw_commit(DeltaTable(gallery.location), [new_file(gallery, "a.parquet", [20])], "a")
    early.create_write_transaction([new_file(gallery, "b.parquet", [21])], "append", early.schema())
    assert DeltaTable(gallery.location).version() == gallery.version + 2


def test_marks_belong_to_a_version_and_outlive_checkpoint_and_log_cleanup(gallery):
    later = gallery.commit([unit(gallery.target, range(20, 25))], run_id="second")
    marks = {
        version: DeltaTable(gallery.location, version=version).transaction_version(
            "regallery.next_row_id"
        )
        for version in range(3)
    }
    assert marks == {0: 0, 1: 20, 2: 25}
    table = DeltaTable(gallery.location)
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 days"})
    table.create_checkpoint()
    table.cleanup_metadata()
    entries = sorted(path.name for path in (gallery._root / "_delta_log").glob("*.json"))
    assert f"{0:020d}.json" not in entries
    assert DeltaTable(gallery.location).transaction_version("regallery.next_row_id") == 25
    assert DeltaTable(gallery.location).transaction_version("regallery.run.first") == 1
    assert contents(type(gallery).open(gallery.location)) == contents(later)


def test_an_empty_last_entry_loads_as_a_version_without_changes(gallery):
    """Why the log is looked at before it is loaded."""
    (gallery._root / "_delta_log" / f"{2:020d}.json").touch()
    table = DeltaTable(gallery.location)
    assert (table.version(), table.count()) == (2, 20)


def test_a_half_entry_does_not_load(gallery):
    (gallery._root / "_delta_log" / f"{2:020d}.json").write_text('{"add":{"pa')
    with pytest.raises(DeltaError, match="Json error"):
        DeltaTable(gallery.location)


def test_an_empty_checkpoint_hint_does_no_harm(gallery):
    DeltaTable(gallery.location).create_checkpoint()
    (gallery._root / "_delta_log" / "_last_checkpoint").write_bytes(b"")
    assert DeltaTable(gallery.location).count() == 20


def test_properties_and_run_summaries_are_kept_as_they_are(gallery):
    table = DeltaTable(gallery.location)
    assert table.metadata().configuration["regallery.recipe"] == '{"height": 256}'
    assert table.history()[0]["regallery"]["run_id"] == "first"
    assert table.history()[0]["version"] == 1


def test_the_history_of_an_old_version_is_that_of_the_table_with_wrong_numbers(gallery):
    """Why the history is always asked of the latest version."""
    assert [entry["version"] for entry in DeltaTable(gallery.location, 0).history()] == [0, -1]
    assert [info.version for info in type(gallery).open(gallery.location, 0).history()] == [0]


def test_no_path_is_in_the_log(gallery):
    for entry in (gallery._root / "_delta_log").glob("*.json"):
        assert "c1/0000" not in entry.read_text()


def test_the_default_vacuum_keeps_files_that_were_never_committed(gallery):
    """Units in flight survive it; a full one without retention deletes them."""
    record = unit(gallery.target, range(20, 25), rejected=[22])
    table = DeltaTable(gallery.location)
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    assert gallery.find_units().units == (record,)
    doomed = table.vacuum(
        retention_hours=0, dry_run=True, enforce_retention_duration=False, full=True
    )
    assert record.path in doomed
    assert not any("_units" in path or "_rejects" in path for path in doomed)


def test_a_table_with_newer_features_is_told_by_its_reader_version(tmp_path):
    schema = Schema.from_arrow(pa.schema([pa.field("t", pa.timestamp("us"))]))
    DeltaTable.create(str(tmp_path / "t"), schema)
    assert DeltaTable(str(tmp_path / "t")).protocol().min_reader_version == 3


def test_the_log_is_json_lines_with_one_commit_info(gallery):
    text = (gallery._root / "_delta_log" / f"{1:020d}.json").read_text()
    kinds = [next(iter(json.loads(line))) for line in text.splitlines()]
    assert kinds.count("commitInfo") == 1
    assert kinds.count("add") == 2


def test_a_thousand_files_in_one_commit(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    one = new_file(gallery, "one.parquet", [0])
    actions = [
        AddAction(f"{number}.parquet", one.size, {}, 0, True, one.stats) for number in range(1000)
    ]
    raw_commit(DeltaTable(gallery.location), actions)
    table = DeltaTable(gallery.location)
    paths = pa.table(table.get_add_actions(flatten=True))["path"]
    assert pc.count_distinct(paths).as_py() == 1000
    assert log.read_log(gallery._root).version == 1


def test_a_folder_name_with_an_escape_is_decoded(tmp_path):
    """Why such names are refused."""
    folder = tmp_path / "50%20off"
    folder.mkdir()
    with pytest.raises(DeltaError):
        DeltaTable.create(str(folder), pa.schema([pa.field("x", pa.int64())]))


def test_rows_that_another_tool_added_twice_are_refused_by_row_id_until_restored(gallery):
    """Features are what every verb that compares rows begins with."""
    twice = [3, 4, 7]
    raw_commit(DeltaTable(gallery.location), [new_file(gallery, "a.parquet", twice)])
    changed = type(gallery).open(gallery.location)
    with pytest.raises(GalleryDamagedError, match="more than once: 3, 4, 7 ") as refused:
        changed.features()
    assert f"row id 3 in {gallery.snapshot.files[0].path} and a.parquet" in str(refused.value)
    back = restore(changed, gallery.version)
    assert contents(back) == expected(range(20))


def test_rows_twice_in_one_file_of_another_tool_are_refused(gallery):
    raw_commit(DeltaTable(gallery.location), [new_file(gallery, "a.parquet", [30, 31, 30])])
    with pytest.raises(
        GalleryDamagedError, match=r"more than once: 30 \(row id 30 in a\.parquet\)"
    ):
        type(gallery).open(gallery.location).features()


@pytest.mark.parametrize("by", ["delete", "update", "compact", "z_order"])
def test_verify_tells_who_wrote_a_table_that_another_tool_rewrote(gallery, by):
    table = DeltaTable(gallery.location)
    match by:
        case "delete":
            table.delete("row_id = 3")
        case "update":
            table.update(updates={"camera": "'z'"}, predicate="row_id = 3")
        case "compact":
            table.optimize.compact()
        case "z_order":
            table.optimize.z_order(["row_id"])
    changed = type(gallery).open(gallery.location)
    found = verify(changed)
    assert (found.findings, found.rows_verified) == ((), 19 if by == "delete" else 20)
    assert found.without_checksum >= 1
    assert found.other_commits
    assert contents(changed) == expected(set(range(20)) - ({3} if by == "delete" else set()))
