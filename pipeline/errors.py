"""The two ways in which a run can fail, each reported in one line."""


class InputError(ValueError):
    """An argument or an input is wrong: nothing was written (exit status 2)."""


class RunError(RuntimeError):
    """A run failed half way: the message says what was kept and how to go on (exit status 1)."""
