"""SQL conditions on a gallery's columns: read whole or not at all, and their errors in one line."""

import re

_LAYER = re.compile(r"^(?:[\w' ]*error: )+", re.IGNORECASE)
_LONGEST = 200


def strict(where: str) -> str:
    """The condition such that the engine either reads all of it or refuses it.

    On its own the engine takes the longest beginning that is a condition and drops what follows: of
    `a = 1 adn b = 2` it would take `a = 1`. Before THEN nothing can be left over (it then takes
    `case` for a column); the second half lets it pass over files by their statistics.

    >>> strict("a = 1")
    'case when a = 1\\n then true else false end and (a = 1\\n)'
    """
    return f"case when {where}\n then true else false end and ({where}\n)"


def why(error: Exception) -> str:
    """Why a `strict` condition does not work, in a line.

    >>> why(ValueError("Schema error: No field named 'case'."))
    "it cannot be read to its end; write it as in camera = '3' and identity > 7"
    >>> why(ValueError("Schema error: No field named x.\\nValid fields are y."))
    'No field named x. Valid fields are y.'
    """
    # The last cause is the first one; what precedes it tells which part of the engine gave up.
    lines = str(error).rpartition("caused by\n")[2].splitlines()
    reason = " ".join(_LAYER.sub("", line) for line in lines)
    if re.match(r"No field named '?case\b", reason):
        return "it cannot be read to its end; write it as in camera = '3' and identity > 7"
    if found := re.search(r"Cannot cast [^\"]*", reason):
        return f"{found[0]}; compare text with text in quotes, as in camera = '3'"
    return reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}..."
