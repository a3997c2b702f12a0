"""A command line in a process of its own, to be killed; the libraries are loaded once for all."""

import multiprocessing
import os
import sys

from jobs.cli import main

_CONTEXT = multiprocessing.get_context("forkserver")


def start(*arguments):
    """Begin a command; returns its process."""
    _CONTEXT.set_forkserver_preload(["tests.jobs.killing", "pipeline.runs.extraction"])
    command = [str(each) for each in arguments]
    process = _CONTEXT.Process(target=_run, args=(command,), daemon=True)
    process.start()
    return process


def _run(command):
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (until the process ends)
    os._exit(main(command))
