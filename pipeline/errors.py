"""The two ways in which a run can fail, each reported in one line."""


class InputError(ValueError):
    """An argument or an input is wrong: nothing was written (exit status 2)."""


class RunError(RuntimeError):
    """A run failed half way: the message says what was kept and how to go on (exit status 1)."""


def is_failure(error: BaseException) -> bool:
    """Whether an exception says that something failed, and not that the process is to end.

    A panic in a library written in Rust is a `BaseException` of a class that cannot be imported.

    >>> is_failure(ValueError()), is_failure(KeyboardInterrupt())
    (True, False)
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
