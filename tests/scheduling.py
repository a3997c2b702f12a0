"""Which tests run in one process, one after the other, and which of them begin first."""

import ast
import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
SHARED = {
    "cluster_head": "cluster_head",
    "dying_head": "cluster_head",
    "cluster": "cluster",
    "new_cluster": "cluster",
}
"""The group of the tests that take a fixture: they share what it starts."""
_MENTION = re.compile(rf"\b({'|'.join(SHARED)})\b")


def group_of(node_id: str) -> str:
    """The group of a test: that of a shared fixture among its arguments, or else its file."""
    file, *names = node_id.split("::")
    if not names or not file.startswith("tests/"):
        return file  # a doctest
    taken = _arguments(file).get(names[-1].partition("[")[0], ())
    return next((SHARED[name] for name in taken if name in SHARED), file)


@cache
def _arguments(file: str) -> dict[str, list[str]]:
    """The arguments of every test of a file, by its name; none where nothing is shared."""
    text = (ROOT / file).read_text()
    if not _MENTION.search(text):  # every process asks this of every file: to parse takes seconds
        return {}
    tree = ast.parse(text)
    tests = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {test.name: [each.arg for each in test.args.args] for test in tests}


class Groups(LoadScopeScheduling):
    """Deal out one group after the other, in the order in which the tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
