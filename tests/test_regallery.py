"""The public face: quick to import, complete, and clear about what is in its way."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import regallery

ROOT = Path(__file__).parents[1]


def python(code, *path, cwd=None):
    script = f"import sys; sys.path[:0] = {[str(each) for each in path]!r}; {code}"
    return subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_importing_loads_nothing_heavy():
    code = "import regallery; print([m for m in ('torch', 'ray', 'numba') if m in sys.modules])"
    done = python(code, ROOT)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("name", regallery.__all__)
def test_every_name_is_there_and_explained(name):
    value = getattr(regallery, name)
    assert name in dir(regallery)
    if name != "__version__":
        assert inspect.getdoc(value)
        assert f"`{name}" in (ROOT / "docs" / "python.md").read_text(), "docs/python.md lacks it"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        regallery.serach  # noqa: B018


@pytest.mark.parametrize("name", ["pipeline", "jobs", "cluster"])
@pytest.mark.parametrize("form", ["{}.py", "{}/__init__.py"])
def test_a_file_of_the_same_name_is_named_in_one_line(tmp_path, name, form):
    foreign = tmp_path / form.format(name)
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("")
    done = python("import regallery", tmp_path, ROOT)
    message = done.stderr.splitlines()[-1]
    assert message.startswith(f"ImportError: {foreign} hides the package {name!r} of regallery: ")
    assert "uv tool install" in message
    command = python(
        "import runpy; runpy.run_module('regallery', run_name='__main__')", tmp_path, ROOT
    )
    assert command.returncode == 1
    assert command.stderr.startswith(f"error: {foreign} hides")
    assert command.stderr.count("\n") == 1


def test_a_package_that_was_overwritten_is_named(tmp_path):
    (tmp_path / "regallery.py").write_text((ROOT / "regallery.py").read_text())
    for name in ("pipeline", "jobs", "cluster"):
        (tmp_path / name).mkdir()
        for file in (ROOT / name).glob("*.py"):
            (tmp_path / name / file.name).write_text(file.read_text())
    assert python("import regallery", tmp_path).returncode == 0
    (tmp_path / "cluster" / "__init__.py").write_text("'''Another distribution.'''")
    done = python("import regallery", tmp_path)
    assert f"{tmp_path / 'cluster'} was overwritten by another distribution" in done.stderr
