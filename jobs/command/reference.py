"""The command reference, `docs/commands.md`, as the parser has it.

python -m jobs.command.reference > docs/commands.md
"""

import sys

from jobs.cli import VERBS, verbs

_HEAD = """\
# Commands

Every command is `regallery VERB` (also `python -m jobs.VERB`). This page is generated from the
command line's own help; `regallery VERB --help` shows the same.

| exit status | meaning |
| --- | --- |
| 0 | done |
| 1 | failed; the message says what was kept and how to go on |
| 2 | wrong arguments or input; nothing was written |
| 130 | interrupted; the same command goes on where it stopped |

Every verb also takes:

* `--config FILE.toml`: arguments in a file, flat or with a table for each verb; flags win over it.
* `--json`: print the result, or the error, as one JSON object, alone, on standard output.
* `--verbose`, `-v`: log more, and show the traceback of a failure.
"""


def reference() -> str:
    """All verbs with their parameters, as Markdown."""
    parts = [_HEAD]
    for verb in VERBS:
        page = verbs([verb])[verb].generate_docs(output_format="markdown", heading_level=2)
        parts.append("\n".join(line.rstrip() for line in page.strip().splitlines()) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(reference())
