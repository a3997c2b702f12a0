"""What the pages say holds: commands parse, links lead somewhere, tables and snippets are true.

A block of `sh` or an inline `regallery ...` is parsed as the command line would be; a block of
`python` is run, alone, where `galleries/query` and `galleries/test` are.
"""

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import cli
from jobs.extract import extract
from pipeline.archive.drawn.drawing import draw_archive
from pipeline.archive.layouts.labels import NameLabels
from pipeline.archive.layouts.named import NAMES, layout
from pipeline.archive.layouts.templates import PLACEHOLDERS
from pipeline.archive.listing.files import (
    HIDDEN,
    IMAGE_SUFFIXES,
    LINK_LOOP,
    NO_SUFFIX,
    OUTDATED,
    SPECIAL,
)
from pipeline.gallery.files import storage
from pipeline.gallery.files.schema import row_schema
from pipeline.gallery.log.conditions import parse
from pipeline.gallery.table import Gallery
from pipeline.runs.settings import ActorSettings

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs" / "commands.md"  # the parser's own words; see test_reference
WRITTEN = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
PAGES = sorted(page for page in WRITTEN if page != GENERATED)
SOURCES = ROOT / "docs" / "sources.md"
GALLERY = ROOT / "docs" / "gallery.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"(?:pipeline|jobs|cluster|tests|docs)/[\w./-]+\.\w+")
PROGRAMS = ("regallery ", "python -m jobs.")
# Where a page leaves the verb open.
PLACEHOLDER = "VERB"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in FENCE.findall(page.read_text()) if kind == language]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def inline(page: Path) -> list[str]:
    return [" ".join(text.split()) for text in INLINE.findall(prose(page))]


def lines(page: Path) -> list[str]:
    """The command lines of a page, those that go over several lines joined."""
    shown = [
        line.strip()
        for block in blocks(page, "sh")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [*shown, *inline(page)]


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for line in lines(page):
            if line.startswith(PROGRAMS):
                yield name_of(page), line


def arguments_of(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    if words[0] == "python":
        return [words[2].removeprefix("jobs."), *words[3:]]
    return words[1:]


@cache
def flags_of(verb: str) -> frozenset[str]:
    """Every flag of a verb, those of all verbs included."""
    app = cli.verbs([verb])
    arguments = [
        *app[verb].assemble_argument_collection(default_parameter=app.default_parameter),
        *app.meta.assemble_argument_collection(),
    ]
    named = {name for each in arguments for name in (*each.names, *each.negatives)}
    return frozenset(name for name in named if name.startswith("-")) | {"--help", "--version"}


def table(page: Path, header: str) -> list[list[str]]:
    """The rows of every table of a page whose first column is called `header`."""
    rows, inside = [], False
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == header:
            inside = True
        elif inside and set(cells[0]) - set("- "):
            rows.append(cells)
    assert rows, f"{name_of(page)} has no table of {header}"
    return rows


def test_there_are_pages_with_commands() -> None:
    pages = {page for page, _ in commands()}
    assert {"README.md", "docs/sources.md", "docs/gallery.md", "docs/cluster.md"} <= pages


@pytest.mark.parametrize(("page", "line"), [*commands()])
def test_commands_parse(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(ROOT / page, "toml"):
        Path(block.split("\n")[0].removeprefix("# ")).write_text(block)
    arguments = arguments_of(line)
    verb = arguments[0]
    if verb == PLACEHOLDER:
        return
    assert verb in cli.VERBS, f"{line}: {verb} is not a verb"
    used, _, submitted = line.partition(" -- ")
    for flag in re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", used):
        assert flag in flags_of(verb), f"{line}: {verb} has no {flag}"
    if submitted and not submitted.startswith(PLACEHOLDER):
        assert cli.parse(shlex.split(submitted)).verb in cli.VERBS
    # A mention such as `regallery extract` names the verb alone, without what it requires.
    if len(arguments) > 1:
        assert cli.parse(arguments).verb == verb


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_flags_in_prose_are_those_of_a_verb(page: Path) -> None:
    known = frozenset[str]().union(*(flags_of(verb) for verb in cli.VERBS))
    said = [text.split()[0] for text in inline(page) if text.startswith("--")]
    assert [flag for flag in said if flag.partition("=")[0] not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = [line.split()[1] for line in lines(page) if line.startswith("make ")]
    assert [name for name in used if name not in targets] == []


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link} names no title"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_tests_that_are_named_exist(page: Path) -> None:
    for text in inline(page):
        path, _, test = text.partition("::")
        if PLACEHOLDER not in path and FILE.fullmatch(path):
            assert (ROOT / path).is_file(), f"there is no {path}"
            assert not test or f"def {test}(" in (ROOT / path).read_text(), f"there is no {text}"


def cell(text: str) -> str | None:
    return text.strip("`") or None


def labels_in(cells: list[str]) -> NameLabels:
    identity, camera, frame, *when = (cell(text) for text in cells)
    return NameLabels(
        None if identity is None else int(identity),
        camera,
        datetime.fromisoformat(when[0]) if when and when[0] else None,
        None if frame is None else int(frame),
    )


def test_every_layout_is_documented_and_no_other() -> None:
    assert {cell(row[0]) for row in table(SOURCES, "layout")} == set(NAMES)


@pytest.mark.parametrize("row", table(SOURCES, "layout"), ids=lambda row: f"{row[0]} {row[1]}")
def test_examples_of_layouts_are_read_as_told(row: list[str], tmp_path: Path) -> None:
    lines = re.findall(r"a list says `([^`]+)`", SOURCES.read_text())
    for file, line in zip(
        ("train_list.txt", "vric_train.txt", "vehicle_info.txt"), lines, strict=True
    ):
        (tmp_path / file).write_text(f"id/image;Camera\n{line}" if ";" in line else line)
    name, example, *told = row
    read = layout(name.strip("`"), str(tmp_path)).parse(example.strip("`"))
    assert read[:4] == labels_in(told)[:4]  # the tables have no column for tracklets


@pytest.mark.parametrize("row", table(SOURCES, "template"), ids=lambda row: row[0])
def test_examples_of_templates_are_read_as_told(row: list[str]) -> None:
    name, example, *told = row
    read = layout(name.strip("`")).parse(example.strip("`"))
    assert read[:4] == labels_in(told)[:4]


def test_every_placeholder_is_documented_and_no_other() -> None:
    told = {name for text in inline(SOURCES) for name in re.findall(r"\{(\w+)\}", text)}
    assert told == set(PLACEHOLDERS)


# Where each of these takes the reason.
RAISED = {"Fault": 1, "Bad": 1, "Rejected": 0, "ReadError": 0, "DecodeError": 0}


def reasons(module: Path) -> Iterator[str]:
    """The reasons of rejects that a module's code gives."""
    text = module.read_text()
    if not any(f"{name}(" in text for name in RAISED):  # to parse all modules takes long
        return
    tree = ast.parse(text)
    chosen = {
        node.targets[0].id: [node.value.body, node.value.orelse]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.IfExp)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        place = RAISED.get(node.func.id)
        if place is None:
            continue
        reason: ast.expr = node.args[place]
        if isinstance(reason, ast.Attribute):  # another's, passed on
            continue
        values = chosen.get(reason.id, []) if isinstance(reason, ast.Name) else [reason]
        assert values, f"{module}, line {node.lineno}: no reason can be read here"
        for value in values:
            yield str(ast.literal_eval(value))


def test_every_reason_of_a_reject_is_documented_and_no_other() -> None:
    in_code = {reason for module in (ROOT / "pipeline").rglob("*.py") for reason in reasons(module)}
    told = [cell(row[0]) for row in table(SOURCES, "reason")]
    assert len(told) == len(set(told))
    assert set(told) == in_code


def test_every_image_suffix_is_documented_and_no_other() -> None:
    (line,) = re.findall(r"^    (\.jpg .+)$", SOURCES.read_text(), re.MULTILINE)
    assert sorted(line.split()) == sorted(IMAGE_SUFFIXES)
    skipped = {text for text in inline(SOURCES) if text.startswith("(")}
    assert skipped == {HIDDEN, NO_SUFFIX, LINK_LOOP, OUTDATED, SPECIAL}


def test_every_column_of_a_gallery_is_documented_in_order() -> None:
    told = [name for row in table(GALLERY, "column") for name in INLINE.findall(row[0])]
    assert told == row_schema(4).names


def test_every_hidden_name_of_a_gallery_is_documented() -> None:
    told = {(cell(row[0]) or "").rstrip("/") for row in table(GALLERY, "name")}
    assert told >= storage.OWN_NAMES


@pytest.fixture(scope="session")
def galleries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the galleries that the pages speak of are."""
    root = tmp_path_factory.mktemp("docs")
    counts = {"identities": 3, "cameras": 2, "crops_per_camera": 1, "distractors": 2, "junk": 1}
    draw_archive(root / "archive", **counts)
    for name, folder in (("query", "query"), ("test", "bounding_box_test")):
        extract(
            str(root / "archive" / folder),
            gallery=str(root / "galleries" / name),
            model=str(ROOT / "jobs" / "demo_network" / "demo.onnx"),
            layout="market1501",
            on=ActorSettings(actors=0),
        )
    return root


def imported(code: str) -> set[str]:
    """The packages that a snippet imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {each.name.split(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def given(root: Path) -> dict[str, Any]:
    """What the snippet of the README takes for given: features and labels."""
    sides = [Gallery.open(str(root / "galleries" / name)) for name in ("query", "test")]
    rows = [side.rows(["identity", "camera"]) for side in sides]
    values = {"queries": sides[0], "gallery": sides[1]}
    names = {key: side.features().read(0, side.count) for key, side in values.items()}
    for key, side in zip("qg", rows, strict=True):
        names[f"pid_{key}"] = side["identity"].to_numpy()
        names[f"cam_{key}"] = side["camera"].to_numpy().astype(np.int64)
    return names


SNIPPETS = [
    pytest.param(page, code, id=f"{name_of(page)}-{place}")
    for page in PAGES
    for place, code in enumerate(blocks(page, "python"))
]


@pytest.mark.parametrize(("page", "code"), SNIPPETS)
def test_snippets_run(
    page: Path, code: str, galleries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = {name for name in imported(code) if importlib.util.find_spec(name) is None}
    if missing:
        pytest.skip(f"needs {', '.join(sorted(missing))}")
    monkeypatch.chdir(galleries)
    names = given(galleries) if page.name == "README.md" else {}
    exec(compile(code, name_of(page), "exec"), names)
    if page == GALLERY and "features" in names:
        features = Gallery.open("galleries/test").features()
        whole = features.read(0, len(features))
        np.testing.assert_allclose(names["features"], whole, rtol=0, atol=1e-6)


def test_conditions_that_are_shown_are_read() -> None:
    table = GALLERY.read_text().split("| what | as in |")[1].split("\n\n")[0]
    shown = [INLINE.findall(row.split("|")[2])[:3] for row in table.splitlines()[2:]]
    conditions = [each for row in shown for each in row if " " in each]
    assert len(conditions) >= 8
    for each in conditions:
        assert parse(each).columns
