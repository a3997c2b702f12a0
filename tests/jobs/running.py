"""Running a verb in this process as the command line does."""

import json

from jobs import cli

SIZE = ("--height", 32, "--width", 16, "--layout", "market1501", "--actors", 0)
"""The recipe, layout and place of a small extraction."""


def run(capsys, *arguments):
    """Exit status, what was printed, and what was told, of one command line."""
    status = cli.main([str(each) for each in arguments])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err + printed.out
    return status, printed.out, printed.err


def result(capsys, *arguments):
    """The JSON object of a command that succeeds."""
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def refused(capsys, *arguments, status=2):
    """The one line in which a command is refused."""
    found, out, err = run(capsys, *arguments)
    assert found == status, (found, out, err)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert out == ""
    return lines[0]
