import dataclasses
import json
import shutil

import pytest

from pipeline.errors import RunError
from pipeline.gallery import checksums, outputs
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log.lock import hold
from pipeline.gallery.outputs import listed_in_galleries, outputs_of, remove, stale_outputs
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep import purge as purging
from pipeline.gallery.upkeep.purge import purge
from pipeline.gallery.upkeep.verify import verify
from tests.gallery.making import new_gallery, unit


@pytest.fixture
def gallery(tmp_path):
    """Version 1, of ids 0 to 9."""
    gallery = new_gallery(tmp_path / "g")
    return gallery.commit([unit(gallery.target, range(10))], run_id="a")


def write(gallery, place, *names, kind="report", text="x"):
    with listed_in_galleries(kind, place, [gallery], *names):
        for path in [place / name for name in names] or [place]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return place


def yes(_output):
    return True


def purged(gallery):
    with hold(gallery.location, "purge") as lock:
        return [each.place for each in purge(gallery, lock).outputs]


def test_what_holds_rows_that_are_gone_is_told(gallery, tmp_path):
    early = write(gallery, tmp_path / "report", "a.json", "b.html")
    gone = write(gallery, tmp_path / "page.html")
    more = gallery.commit([unit(gallery.target, range(10, 20))], run_id="b")
    late = write(more, tmp_path / "late.csv")
    less = more.commit([], run_id="c", removes=[12])
    latest = write(less, tmp_path / "latest.csv")
    gone.unlink()
    assert {each.place for each in outputs_of(less)} == {early, late, latest}
    assert purged(less) == [late]
    assert purged(less) == [late]  # it is still there
    assert verify(less).findings == ()
    (last,) = stale_outputs(less)
    assert str(last) == f"report {late} (made from version 2)"
    assert remove(last, yes) is None
    assert not late.exists()
    assert purged(less) == []
    least = less.commit([], run_id="d", removes=[1])
    assert set(purged(least)) == {early, latest}  # though version 1 was removed before


def test_only_what_is_as_it_was_written_is_deleted(gallery, tmp_path):
    place = write(gallery, tmp_path / "out", "a.json", "b.html")
    (place / "sub").mkdir()
    (output,) = outputs_of(gallery)
    assert set(output.files) == {str(place / "a.json"), str(place / "b.html")}
    (place / "b.html").write_text("y")
    assert "b.html was changed since (SHA-256)" in remove(output, yes)
    (place / "b.html").unlink()
    assert "b.html is not there" in remove(output, yes)
    assert (place / "a.json").exists()
    (place / "b.html").write_text("x")
    assert remove(output, yes) is None
    assert [each.name for each in place.iterdir()] == ["sub"]
    assert outputs_of(gallery) == []
    assert verify(gallery).findings == ()
    folder = write(gallery, tmp_path / "export", "rows.csv")
    (folder / "files").mkdir()
    (folder / "files" / "1.npy").write_text("1")
    with listed_in_galleries("export", folder, [gallery], "rows.csv", "files"):
        pass
    (output,) = outputs_of(gallery)
    assert remove(output, yes) is None
    assert not folder.exists()


def test_what_is_no_part_of_it_is_linked_or_of_others_stays(gallery, tmp_path):
    place = write(gallery, tmp_path / "out", "a.json")
    (output,) = outputs_of(gallery)
    assert remove(output, lambda _: False) == "its files are not what this tool writes"
    precious = tmp_path / "precious"
    precious.write_text("x")
    told = dataclasses.replace(output, files={str(precious): outputs.digest(precious)})
    assert remove(told, yes) == f"{precious} is not a part of it"
    inside = dataclasses.replace(output, files={f"{place}/../precious": outputs.digest(precious)})
    assert "is not a part of it" in remove(inside, yes)
    (tmp_path / "same").hardlink_to(place / "a.json")
    assert "has another name (a hard link)" in remove(output, yes)
    (place / "a.json").unlink()
    (place / "a.json").symlink_to(precious)
    assert "is a link" in remove(output, yes)
    folder = write(gallery, tmp_path / "folder", "1.npy")
    with listed_in_galleries("export", tmp_path / "folder", [gallery]):
        pass
    (output,) = (each for each in outputs_of(gallery) if each.kind == "export")
    (folder / "1.npy").unlink()
    (folder / "1.npy").symlink_to(precious)
    assert f"{folder}/1.npy is a link" in remove(output, yes)
    assert precious.read_text() == "x"


@pytest.mark.parametrize("how", [shutil.copytree, shutil.move])
def test_what_came_with_a_copy_is_another_gallerys(gallery, tmp_path, how):
    place = write(gallery, tmp_path / "page.html")
    how(gallery.location, tmp_path / "copy")
    copy = Gallery.open(str(tmp_path / "copy"))
    less = copy.commit([], run_id="less", removes=[1])
    with hold(less.location, "purge") as lock:
        (output,) = purge(less, lock).outputs
    assert f"{tmp_path / 'g'} listed it, of which this gallery is a copy" in remove(output, yes)
    assert place.exists()
    own = write(less, tmp_path / "own.html")
    assert [each.place for each in outputs_of(less) if not each.why_of_another] == [own]
    if how is shutil.copytree:
        (tmp_path / "link").symlink_to(gallery.location)
        assert [e.why_of_another for e in outputs_of(Gallery.open(str(tmp_path / "link")))] == [""]
        assert purged(gallery.commit([], run_id="less", removes=[1])) == [place]


def test_one_that_was_cut_off_is_told_and_never_deleted(gallery, tmp_path):
    place = write(gallery, tmp_path / "page.html")
    with pytest.raises(ZeroDivisionError), listed_in_galleries("search page", place, [gallery]):
        raise ZeroDivisionError
    (output,) = stale_outputs(gallery)
    assert (output.kind, output.files) == ("search page", None)
    assert "was not finished" in remove(output, yes)
    assert place.exists()
    write(gallery, place, kind="search page")
    assert stale_outputs(gallery) == []


def test_what_is_elsewhere_stays_listed(gallery, tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    place = write(gallery, disk / ".." / "disk" / "page.html").resolve()
    less = gallery.commit([], run_id="less", removes=[1])
    disk.rename(tmp_path / "unmounted")
    assert purged(less) == [place]
    (output,) = outputs_of(less)
    assert "is not there" in remove(output, yes)
    with monkeypatch.context() as patch:
        patch.setattr(outputs.socket, "gethostname", lambda: "other")
        disk.mkdir()
        assert str(output) == f"report {place} on {output.host} (made from version 1)"
        assert purged(less) == [place]  # there it may be
    assert purged(less) == []  # here it was deleted


def test_a_gallery_that_holds_the_same_images_only_is_not_told(gallery, tmp_path):
    copy = new_gallery(tmp_path / "copy")
    with listed_in_galleries("imported gallery", copy.location, [gallery]):
        copy.commit([unit(copy.target, range(10))], run_id="a")
    less = gallery.commit([], run_id="less", removes=[4])
    told = [copy._root]
    assert purged(less) == told
    after = Gallery.open(copy.location).commit([], run_id="less", removes=[4])
    assert purged(less) == told  # an older version has it
    assert purged(after) == []
    assert purged(less) == []
    shutil.rmtree(copy._root / "_delta_log")
    assert outputs_of(less)[0].version == 2


def test_a_gallery_that_may_not_be_written_to(gallery, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(outputs.os, "access", lambda *_: False)
    place = write(gallery, tmp_path / "page.html")
    assert f"a purge of it would not know of {place}" in caplog.text
    assert outputs_of(gallery) == []


def test_a_list_that_is_another_users(gallery, tmp_path, monkeypatch, caplog):
    write(gallery, tmp_path / "first.html")
    for folder in ("_outputs", "_checksums", "_checksums/_outputs"):
        closed = gallery._root / folder
        monkeypatch.setattr(outputs.os, "access", lambda path, _, closed=closed: path != closed)
        write(gallery, tmp_path / f"{len(folder)}.html")
        assert f"would not know of {tmp_path / f'{len(folder)}.html'}" in caplog.text
    assert [each.place.name for each in outputs_of(gallery)] == ["first.html"]


def test_a_version_that_was_removed_meanwhile(gallery, tmp_path):
    less = gallery.commit([], run_id="less", removes=[4])
    purged(less)
    with pytest.raises(RunError, match="version 1 was removed while it was read"):
        write(gallery, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_what_is_made_while_a_purge_begins_is_told(gallery, tmp_path, monkeypatch):
    less, real = gallery.commit([], run_id="less", removes=[4]), purging._set_aside

    def set_aside(*of):
        write(gallery, tmp_path / "page.html")
        real(*of)
        with pytest.raises(RunError, match="version 1 is being removed by a purge"):
            write(gallery, tmp_path / "late.html")

    monkeypatch.setattr(purging, "_set_aside", set_aside)
    assert purged(less) == [tmp_path / "page.html"]


@pytest.mark.parametrize(
    "change",
    [
        lambda about: "{",
        lambda about: json.dumps(about | {"regallery_output": 2}),
        lambda about: json.dumps(about | {"version": "x"}),
        lambda about: json.dumps({"regallery_output": 1}),
    ],
)
def test_a_file_that_lists_nothing(gallery, tmp_path, change):
    write(gallery, tmp_path / "page.html")
    (output,) = outputs_of(gallery)
    text = change(json.loads(output.file.read_text()))
    output.file.write_text(text)
    with pytest.raises(GalleryDamagedError, match="its bytes are not those that were written"):
        outputs_of(gallery)
    assert [each.file for each in verify(gallery).findings] == [f"_outputs/{output.file.name}"]
    checksums.write_recorded(output.file, lambda temporary: temporary.write_text(text))
    with pytest.raises(GalleryDamagedError, match="this does not name an output"):
        outputs_of(gallery)


def test_a_file_that_cannot_be_deleted(gallery, tmp_path, monkeypatch):
    place = write(gallery, tmp_path / "page.html")
    (output,) = outputs_of(gallery)

    def fails(*_args, **_flags):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(outputs.Path, "unlink", fails)
        assert remove(output, yes) == "it cannot be deleted (Permission denied)"
    assert place.exists()
    assert dataclasses.replace(output, kind=outputs.EXPANDED).is_gallery
