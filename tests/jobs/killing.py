"""A command line in a process of its own, to be killed; the libraries are loaded once for all."""

import multiprocessing
import os
import sys

from jobs.cli import main

_CONTEXT = multiprocessing.get_context("forkserver")
_LOADED = ["tests.jobs.killing", "pipeline.runs.extraction", "pipeline.runs.evaluating"]


def start(*arguments, prepare=None):
    """Begin a command; returns its process.

    `prepare` is a function and its arguments, which the process calls before.
    """
    _CONTEXT.set_forkserver_preload(_LOADED)
    command = [str(each) for each in arguments]
    process = _CONTEXT.Process(target=_run, args=(command, prepare), daemon=True)
    process.start()
    return process


def _run(command, prepare):
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (until the process ends)
    if prepare:
        function, *arguments = prepare
        function(*arguments)
    os._exit(main(command))
