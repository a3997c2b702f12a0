import shutil

import pytest

from pipeline.core.expansion import Expansion, expand
from pipeline.gallery.derived import derivation, is_made_from
from pipeline.gallery.table import Gallery
from pipeline.runs import expansion
from tests.gallery.crashing import interrupted
from tests.gallery.making import new_gallery, path_of, unit
from tests.jobs.running import SIZE, refused, result, run
from tests.stages.making import save_network, save_source

FLAGS = ("-k", 4, "--alpha", 2)
SETTINGS = Expansion("database", 4, 2.0)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The folder of which each `parent` is a copy: to make a gallery takes longer."""
    gallery = new_gallery(tmp_path_factory.mktemp("template") / "parent")
    units = [unit(gallery.target, range(12), [3]), unit(gallery.target, range(12, 21), [15, 16])]
    gallery.commit(units, run_id="a").commit([], run_id="b", removes=[5])
    return gallery.location


@pytest.fixture
def parent(template, tmp_path):
    """A gallery of 20 rows whose ids have gaps."""
    shutil.copytree(template, tmp_path / "parent")
    return Gallery.open(str(tmp_path / "parent"))


def command(tmp_path, *flags, out="expanded"):
    return ("expand", "--gallery", tmp_path / "parent", "--out", tmp_path / out, *FLAGS, *flags)


def contents(folder):
    gallery = Gallery.open(str(folder))
    return gallery.rows().to_pylist(), gallery.features().read(0, gallery.count).tobytes()


def expected(gallery, settings=SETTINGS):
    rows = gallery.features().read(0, gallery.count)
    for _ in range(settings.times):
        (rows,) = expand(rows, rows, settings, self_offset=0)
    return gallery.rows().to_pylist(), rows.tobytes()


@pytest.mark.parametrize("times", [1, 2])
def test_features_are_expanded_and_all_else_is_kept(capsys, tmp_path, parent, times):
    told = result(capsys, *command(tmp_path, "--times", times))
    assert (told["rows"], told["version"], told["parent_version"], told["is_new_version"]) == (
        17,
        1,
        2,
        True,
    )
    assert told["parent"] == str(tmp_path / "parent")
    settings = Expansion("database", 4, 2.0, times)
    assert contents(tmp_path / "expanded") == expected(parent, settings)
    made = Gallery.open(str(tmp_path / "expanded"))
    about = derivation(made)
    assert about.parent == parent.location
    assert is_made_from(made, parent)
    assert not is_made_from(made, Gallery.open(parent.location, 1))
    assert about.parameters == {"mode": "database", "k": 4, "alpha": 2.0, "times": times}
    assert made.fingerprint != parent.fingerprint
    assert made.recipe_json == parent.recipe_json
    assert len(list((tmp_path / "expanded" / "_graph").iterdir())) == times


def test_a_second_run_does_nothing(capsys, tmp_path, parent, monkeypatch):
    result(capsys, *command(tmp_path))
    monkeypatch.setattr(expansion, "expand_gallery", None)
    told = result(capsys, *command(tmp_path))
    assert (told["version"], told["is_new_version"]) == (1, False)
    assert "up to date" in run(capsys, *command(tmp_path))[1]


def grown(parent):
    """The parent's next version: two rows come, one of them in the place of another, one goes."""
    paths = [path_of(2), "new.jpg"]
    new = unit(parent.target, range(21, 23), paths=paths)
    return parent.commit([new], run_id="c", removes=[8])


@pytest.mark.parametrize("times", [1, 2])
def test_a_new_version_is_followed_by_what_is_new(capsys, tmp_path, parent, monkeypatch, times):
    flags = ("--times", times)
    result(capsys, *command(tmp_path, *flags))
    now = grown(parent)
    build = expansion.build_graph
    made = []

    def counted(rows, *arguments, **options):
        made.append(len(rows))
        return build(rows, *arguments, **options)

    monkeypatch.setattr(expansion, "build_graph", counted)
    told = result(capsys, *command(tmp_path, *flags))
    assert (told["version"], told["parent_version"], told["rows"]) == (2, 3, 17)
    assert contents(tmp_path / "expanded") == expected(now, Expansion("database", 4, 2.0, times))
    assert len(made) == times - 1  # in so small a gallery a round changes most of the next one
    result(capsys, *command(tmp_path, *flags, out="anew"))
    assert contents(tmp_path / "anew") == contents(tmp_path / "expanded")
    before = Gallery.open(str(tmp_path / "expanded"), 1)
    assert (
        before.features().read(0, 17).tobytes()
        == expected(parent, Expansion("database", 4, 2.0, times))[1]
    )


def test_an_older_version_may_be_asked_for(capsys, tmp_path, parent):
    told = result(capsys, *command(tmp_path, "--version", 1))
    assert (told["parent_version"], told["rows"]) == (1, 18)
    assert contents(tmp_path / "expanded") == expected(Gallery.open(parent.location, 1))


class Crash(BaseException):
    """Not an Exception: nothing on the way may take it for an error to be handled."""


def crash():
    raise Crash


def test_cut_off_while_it_follows_the_same_command_goes_on(capsys, tmp_path, parent):
    result(capsys, *command(tmp_path, out="before"))
    now = grown(parent)
    wanted = expected(now)
    for operation in range(0, 400, 17):  # `test_kills` has others
        folder = f"out-{operation}"
        shutil.copytree(tmp_path / "before", tmp_path / folder)
        try:
            with interrupted(operation, crash):
                run(capsys, *command(tmp_path, out=folder))
        except Crash:
            result(capsys, *command(tmp_path, out=folder))
            assert contents(tmp_path / folder) == wanted
        else:
            break
    assert operation > 10


@pytest.mark.ray
def test_workers_change_nothing(capsys, tmp_path, parent, cluster):
    flags = ("--workers", 2, "--memory", 0.001)
    result(capsys, *command(tmp_path, *flags))
    assert contents(tmp_path / "expanded") == expected(parent)
    now = grown(parent)
    result(capsys, *command(tmp_path, *flags))
    assert contents(tmp_path / "expanded") == expected(now)


@pytest.fixture
def extracted(capsys, tmp_path):
    """Queries and a gallery that can be evaluated, and the network that made them."""
    network = save_network(tmp_path).path
    for folder, count in (("query", 9), ("parent", 40)):
        source = save_source(tmp_path / f"{folder}-source", count)
        flags = ("--gallery", tmp_path / folder, "--model", network, *SIZE)
        result(capsys, "extract", source, *flags)
    return network


def evaluated(capsys, tmp_path, query, gallery, *flags):
    folders = ("--query", tmp_path / query, "--gallery", tmp_path / gallery)
    return ("evaluate", *folders, "--out", tmp_path / "report", *flags)


def test_an_expanded_gallery_has_the_figures_of_database_mode_and_says_so(
    capsys, tmp_path, extracted
):
    result(capsys, *command(tmp_path))
    report = result(capsys, *evaluated(capsys, tmp_path, "query", "expanded"))["report"]
    flags = ("--aqe", "database", "--k", 4, "--alpha", 2)
    wanted = result(capsys, *evaluated(capsys, tmp_path, "query", "parent", *flags))["report"]
    for name in ("cmc", "mAP", "mAP_trapezoid", "mINP"):
        assert report["results"][0][name] == wanted["results"][1][name]
        assert wanted["results"][0]["mAP"] != wanted["results"][1]["mAP"]
    told = f"expanded (alpha 2.0, k 4, mode database, times 1) from {tmp_path / 'parent'}"
    assert report["gallery"]["expanded"] == told
    assert report["query"]["expanded"] is None
    assert result(capsys, "info", "--gallery", tmp_path / "expanded")["derived"] == told
    assert "derived" in run(capsys, "info", "--gallery", tmp_path / "expanded")[1]
    assert result(capsys, "info", "--gallery", tmp_path / "parent")["derived"] is None
    _, _, err = run(capsys, *evaluated(capsys, tmp_path, "query", "expanded"))
    assert f"{tmp_path / 'expanded'} is {told}" in err


def test_expanded_queries_need_a_gallery_expanded_in_the_same_way(capsys, tmp_path, extracted):
    result(capsys, *command(tmp_path))
    result(capsys, *command(tmp_path, "--times", 2, out="twice"))
    for gallery, told in (("parent", "not expanded"), ("twice", "times 2")):
        line = refused(capsys, *evaluated(capsys, tmp_path, "expanded", gallery))
        assert "expanded queries are compared only with a gallery expanded in the same way" in line
        assert told in line
    result(capsys, *evaluated(capsys, tmp_path, "expanded", "expanded"))


def test_nothing_is_extracted_into_an_expanded_gallery(capsys, tmp_path, extracted):
    result(capsys, *command(tmp_path))
    flags = ("--gallery", tmp_path / "expanded", "--model", extracted, *SIZE)
    line = refused(capsys, "extract", tmp_path / "parent-source", *flags)
    assert f"extract into {tmp_path / 'parent'}, then make it again" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--k", 0), "k counts the row itself"),
        (("--alpha", -1), "alpha must be"),
        (("--times", 0), "times must be"),
        (("--gallery-block", 0), "--gallery-block must be at least 1"),
        (("--mode", "joint"), "joint"),
        (("--scratch", "/no/such/folder"), "--scratch /no/such/folder"),
        (("--version", 0), "has no row in version 0"),
        (("--version", 9), "version 9 does not exist"),
    ],
)
def test_wrong_flags_are_told(capsys, tmp_path, parent, flags, message):
    arguments = ("expand", "--gallery", parent.location, "--out", tmp_path / "expanded")
    assert message in refused(capsys, *arguments, *flags)
    assert not (tmp_path / "expanded").exists()


def test_galleries_of_another_kind_are_left_alone(capsys, tmp_path, parent):
    other = new_gallery(tmp_path / "other")
    line = refused(capsys, *command(tmp_path, out="other"))
    assert "holds plain features" in line
    result(capsys, *command(tmp_path))
    line = refused(capsys, *command(tmp_path, "--times", 2))
    assert "times 1" in line
    assert "times 2" in line
    assert Gallery.open(other.location).version == 0
    expanded = tmp_path / "expanded"
    line = refused(capsys, "expand", "--gallery", expanded, "--out", tmp_path / "twice")
    assert "with --times instead" in line


def test_another_gallery_in_the_parents_place_is_told(capsys, tmp_path, parent):
    result(capsys, *command(tmp_path))
    (tmp_path / "parent").rename(tmp_path / "moved")
    gallery = new_gallery(tmp_path / "parent", dimension=4)
    gallery.commit([unit(gallery.target, range(9))], run_id="a")
    assert "from another gallery at" in refused(capsys, *command(tmp_path))


def test_a_parent_made_anew_is_followed_though_its_version_is_the_same(capsys, tmp_path, parent):
    result(capsys, *command(tmp_path))
    (tmp_path / "parent").rename(tmp_path / "moved")
    gallery = new_gallery(tmp_path / "parent")
    gallery = gallery.commit([unit(gallery.target, range(18))], run_id="a")
    gallery = gallery.commit([], run_id="b", removes=[0])
    assert gallery.version == parent.version
    assert result(capsys, *command(tmp_path))["is_new_version"]
    assert contents(tmp_path / "expanded") == expected(gallery)
    assert not result(capsys, *command(tmp_path))["is_new_version"]


def test_the_rows_of_a_graph_are_the_rows_that_were_expanded(capsys, tmp_path, parent):
    """A parent made anew may have the ids and versions of the old one, and other features."""
    result(capsys, *command(tmp_path))
    (tmp_path / "parent").rename(tmp_path / "moved")
    gallery = new_gallery(tmp_path / "parent")
    for number in range(3):
        ids = range(7 * number, 7 * number + 7)
        gallery = gallery.commit([unit(gallery.target, ids)], run_id=f"run{number}")
    result(capsys, *command(tmp_path))
    assert contents(tmp_path / "expanded") == expected(gallery)


def test_the_products_are_told(capsys, tmp_path, parent):
    told = result(capsys, *command(tmp_path))
    assert told["products"]["pairs"] == told["products"]["floats"] == 17**2
    again = result(capsys, *command(tmp_path))
    assert again["products"]["pairs"] == 0
    err = run(capsys, *command(tmp_path, out="other"), "--verbose")[2]
    assert "neighbors: products 100.0% of float32" in err
