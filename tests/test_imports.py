"""Modules import each other in one direction, imports inside functions counted."""

import ast
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def modules():
    """The files of the packages by module name."""
    found = {}
    for package in ("pipeline", "jobs", "cluster"):
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def parsed(path):
    return ast.parse(path.read_text())


def statements(tree):
    """All statements below a node; the expressions in them, which are many more, import nothing."""
    todo = [tree]
    while todo:
        node = todo.pop()
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            todo += getattr(node, field, ())
        yield node


@cache
def imports_of(path):
    """What a module imports; of what is imported from a package, its modules."""
    known, found = modules(), []
    for node in statements(parsed(path)):
        if isinstance(node, ast.Import):
            found += (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                inner = f"{node.module}.{each.name}"
                found.append(inner if inner in known else node.module)
    return found


def circles(edges):
    """Every set of modules that reach each other."""

    def reach(start):
        found, todo = set(), [start]
        while todo:
            new = edges.get(todo.pop(), set()) - found
            found |= new
            todo += new
        return found

    reached = {name: reach(name) for name in edges}
    return {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in edges
        if name in reached[name]
    }


def test_no_module_imports_itself_by_way_of_others():
    known = modules()
    edges = {}
    for name, path in known.items():
        others = {each for each in imports_of(path) if each in known}
        edges[name] = others - {name}
    assert circles(edges) == set()


def test_a_circle_is_found():
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert circles(edges) == {frozenset("abc")}


def faces():
    """The modules that each sub-package of the library names, and those that it holds."""
    for face in sorted((ROOT / "pipeline").glob("*/*/__init__.py")):
        tree = ast.parse(face.read_text())
        named = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
        ]
        held = {path.stem for path in face.parent.glob("*.py")} - {"__init__"}
        yield ".".join(face.parent.relative_to(ROOT).parts), named[0], held


def test_a_sub_package_names_at_most_eight_modules_and_the_rest_is_its_own():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    protected = {
        contract["allowed_importers"][0]: set(contract["protected_modules"])
        for contract in contracts["contracts"]
        if contract["type"] == "protected"
    }
    known = modules()
    outside = {
        (importer, imported)
        for importer, path in known.items()
        for imported in imports_of(path)
        if imported in known
    }
    for package, named, held in faces():
        assert 1 <= len(named) <= 8, package
        assert named == sorted(set(named)), package
        assert set(named) <= held, package
        inner = {f"{package}.{name}" for name in held - set(named)}
        assert protected.pop(package, set()) == inner, package
        used = {
            imported.removeprefix(f"{package}.")
            for importer, imported in outside
            if imported.startswith(f"{package}.") and not importer.startswith(f"{package}.")
        }
        assert set(named) <= used, package
    assert protected == {}


def test_the_name_of_a_class_or_of_a_type_means_one_thing():
    homes = {}
    for module, path in modules().items():
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            else:
                continue
            for name in names:
                if name[0].isupper() and not name.isupper():
                    homes.setdefault(name, []).append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_the_logger_of_every_module_has_one_name():
    names = {}
    for module, path in modules().items():
        for node in parsed(path).body:
            if isinstance(node, ast.Assign) and "getLogger" in ast.unparse(node.value):
                names[module] = ast.unparse(node.targets[0])
    assert len(names) > 20
    assert set(names.values()) == {"_log"}, names
