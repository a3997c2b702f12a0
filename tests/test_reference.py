"""The generated pages are those that the code gives today."""

from pathlib import Path

import pytest
from cyclopts import UnknownOptionError

from jobs.cli import verbs
from jobs.command.reference import reference

ROOT = Path(__file__).parents[1]
PAGES = "\n".join(page.read_text() for page in sorted((ROOT / "docs" / "api").glob("*.md")))


def test_the_command_reference_is_current():
    assert (ROOT / "docs" / "commands.md").read_text() == reference(), (
        "renew it by: make docs/commands.md"
    )


def test_the_command_reference_names_no_flag_that_the_parser_does_not_take():
    assert "--empty-" not in reference()
    with pytest.raises(UnknownOptionError):
        verbs(["erase"]).parse_args(
            ["erase", "--gallery", "g", "--empty-ids"], exit_on_error=False, print_error=False
        )


@pytest.mark.parametrize("package", ["pipeline", "cluster"])
def test_every_module_is_in_the_api_reference(package):
    for file in sorted((ROOT / package).rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if file.name != "__init__.py" and not module.startswith(("pipeline.report",)):
            assert f"::: {module}\n" in PAGES + "\n", f"docs/api has no {module}"
