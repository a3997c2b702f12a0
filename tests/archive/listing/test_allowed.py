"""What a manifest may read, and what of it is refused before any image is read."""

import tarfile
from pathlib import Path

import pytest

from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.listing.source import list_source
from pipeline.errors import InputError
from tests.archive.sources import fill, paths


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for the manifest, one beside it, and a hidden one, each with a picture."""
    fill(tmp_path, "own/a.jpg", "beside/b.jpg", "beside/deep/c.jpg", "home/.ssh/d.jpg")
    return tmp_path


def listed(place: Path, *rows: object, roots: tuple[str, ...] = ()) -> list[str]:
    manifest = place / "own" / "m.csv"
    manifest.write_text("path\n" + "".join(f"{row}\n" for row in rows))
    return list(paths(list_source(str(manifest), settings=LabelSettings(allow_root=roots))))


def refused(place: Path, row: object, *roots: str) -> str:
    with pytest.raises(InputError, match="nothing was read") as told:
        listed(place, "a.jpg", row, roots=roots)
    assert str(row) in str(told.value)
    return str(told.value)


def linked(link: Path, target: Path) -> Path:
    link.symlink_to(target)
    return link


def test_by_default_any_place_that_a_user_means_is_read(place: Path) -> None:
    linked(place / "own" / "l", place / "beside")
    linked(place / "own" / "l.jpg", place / "beside" / "b.jpg")
    rows = ["a.jpg", "../beside/b.jpg", str(place / "beside/b.jpg"), "l/b.jpg", "l.jpg"]
    assert sorted(listed(place, *rows)) == sorted(rows)
    assert listed(place, f"file://{place}/beside/b.jpg")


def test_by_default_hidden_folders_are_not(place: Path) -> None:
    hidden = place / "home" / ".ssh"
    for row in (hidden / "d.jpg", "../home/.ssh/d.jpg", f"file://{hidden}/d.jpg"):
        assert "in a hidden folder" in refused(place, row)
    linked(place / "own" / "l", hidden)
    linked(place / "own" / "l.jpg", hidden / "d.jpg")
    fill(place, "own/.cache/e.jpg")
    for row in ("l/d.jpg", "l.jpg", ".cache/e.jpg"):
        assert "in a hidden folder" in refused(place, row)
    assert listed(place, hidden / "d.jpg", roots=(str(hidden),))


def test_a_manifest_in_a_hidden_folder_reads_its_own(tmp_path: Path) -> None:
    fill(tmp_path, ".cache/own/a.jpg")
    assert listed(tmp_path / ".cache", "a.jpg") == ["a.jpg"]


@pytest.mark.parametrize("row", ["/etc/passwd", "/proc/self/environ", "/sys/x.jpg", "/dev/zero"])
def test_by_default_folders_of_the_system_are_not(place: Path, row: str) -> None:
    assert "in a folder of the system" in refused(place, row)
    linked(place / "own" / "l", Path(row).parent)
    assert "in a folder of the system" in refused(place, f"l/{Path(row).name}")


def test_with_roots_nothing_else_is_read(place: Path) -> None:
    beside = str(place / "beside")
    rows = ["a.jpg", f"{beside}/b.jpg", f"{beside}/deep/c.jpg"]
    assert sorted(listed(place, *rows, roots=(beside,))) == sorted(rows)
    deep = f"{beside}/deep"
    for row in (
        f"{beside}/b.jpg",
        "../beside/b.jpg",
        f"file://{beside}/b.jpg",
        "s3://bucket/x.jpg",
    ):
        assert "outside the roots" in refused(place, row, deep)


def test_with_roots_links_do_not_lead_out(place: Path) -> None:
    deep = str(place / "beside" / "deep")
    linked(place / "own" / "l", place / "beside")
    linked(place / "own" / "l.jpg", place / "beside" / "b.jpg")
    linked(Path(deep) / "out.jpg", place / "own2.jpg")
    (place / "own2.jpg").write_bytes(b"x")
    for row in ("l/b.jpg", "l.jpg", f"{deep}/out.jpg", f"file://{deep}/out.jpg"):
        assert "outside the roots" in refused(place, row, deep)
    assert listed(place, "l/deep/c.jpg", roots=(deep,)) == ["l/deep/c.jpg"]
    # A root that is a link is where it leads to.
    root = linked(place / "root", place / "beside")
    assert listed(place, "l/b.jpg", roots=(str(root),)) == ["l/b.jpg"]


def test_members_of_a_tar_lie_where_the_tar_does(place: Path) -> None:
    with tarfile.open(place / "beside" / "t.tar", "w") as tar:
        tar.add(place / "own" / "a.jpg", "x.jpg")
    linked(place / "own" / "t.tar", place / "beside" / "t.tar")
    assert listed(place, "t.tar#x.jpg") == ["t.tar#x.jpg"]
    for row in ("t.tar#x.jpg", f"{place}/beside/t.tar#x.jpg"):
        assert "outside the roots" in refused(place, row, str(place / "home"))


def test_urls_are_compared_whole_and_never_climb(place: Path) -> None:
    root = "memory://crops"
    for row in ("memory://crops2/a.jpg", "memory://crops/../x/a.jpg", "memory://x/a.jpg"):
        assert "outside the roots" in refused(place, row, root)


def test_a_root_that_does_not_exist_is_told(place: Path) -> None:
    with pytest.raises(InputError, match="`allow_root` /nowhere: the folder does not exist"):
        listed(place, "a.jpg", roots=("/nowhere",))


def test_a_folder_is_no_manifest(place: Path) -> None:
    settings = LabelSettings(allow_root=(str(place),))
    with pytest.raises(InputError, match="`allow_root` is for manifests"):
        list_source(str(place / "own"), settings=settings)
