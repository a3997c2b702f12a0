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
| 1 | failed; the message says what was kept and how to resume |
| 2 | wrong arguments or input; nothing was written |
| 130 | interrupted; run the same command again to resume |

Every verb also takes:

* `--config FILE.toml`: arguments in a file, flat or with a table for each verb; flags override it.
* `--json`: print only the result (or the error) to standard output, as one JSON object.
* `--verbose`, `-v`: log more, and show the traceback of a failure.
* `--wait-lock FLOAT`: wait up to this many seconds for another writer of the gallery to finish
  (default: fail at once). Reading never waits.
"""


def reference() -> str:
    """All verbs with their parameters, as Markdown."""
    parts = [_HEAD]
    for verb in VERBS:
        app = verbs([verb])
        page_of = app[verb]
        page_of.default_parameter = (
            app.default_parameter
        )  # otherwise the page names flags --empty-X, which do not exist
        page = page_of.generate_docs(output_format="markdown", heading_level=2)
        parts.append("\n".join(line.rstrip() for line in page.strip().splitlines()) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(reference())
