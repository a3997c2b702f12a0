"""Lines of Ray's C++ core on standard error, in a process with a terminal and in one without."""

import os
import pty
import subprocess
import sys
import textwrap

import pytest

SCRIPT = textwrap.dedent(
    """
    import os, sys
    from cluster.quiet import ray_lines_hidden

    with ray_lines_hidden():
        os.write(2, b"[2026-11-28 20:00:00,123 E 12 345] core_worker.cc:513: Failed to connect\\n")
        os.write(2, b"    @ 0x7f ray::core::CoreWorker()\\n")
        os.write(2, b"(raylet) [2026-11-28 20:00:00,123 E 12 34] worker died\\n")
        os.write(2, b"a line of a library\\n")
        print("terminal" if sys.stderr.isatty() else "no terminal", file=sys.stderr)
        os.write(2, b"a line without an end")
    os.write(2, b"\\n[2026-11-28 20:00:00,123 E 12 345] core_worker.cc:513: after\\n")
    """
)


def lines_of(stderr):
    done = subprocess.run([sys.executable, "-c", SCRIPT], stderr=stderr, check=True, timeout=60)
    return done.stderr


def checked(text, first):
    lines = text.decode().replace("\r", "").splitlines()
    assert sorted(lines[:3]) == sorted(["a line of a library", first, "a line without an end"])
    assert lines[3:] == ["[2026-11-28 20:00:00,123 E 12 345] core_worker.cc:513: after"]


def test_only_rays_own_lines_are_dropped():
    checked(lines_of(subprocess.PIPE), "no terminal")


def test_what_python_writes_knows_the_terminal():
    ours, theirs = pty.openpty()
    try:
        lines_of(theirs)
        checked(os.read(ours, 65_536), "terminal")
    finally:
        os.close(ours)
        os.close(theirs)


def test_an_error_inside_leaves_standard_error_as_it_was(capfd):
    from cluster.quiet import ray_lines_hidden

    with pytest.raises(ZeroDivisionError), ray_lines_hidden():
        os.write(2, b"[2026-11-28 20:00:00,123 W 1 2] x.cc:1: hidden\n")
        raise ZeroDivisionError
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"


def test_what_rays_python_prints_is_dropped(capsys):
    from cluster.quiet import ray_lines_hidden

    before = sys.stdout
    with ray_lines_hidden():
        # As `print` does: a text, and then the end of its line.
        for text in ("\x1b[33m(raylet)\x1b[0m A worker died", "a result", "(rays of light)"):
            sys.stdout.write(text)
            sys.stdout.write("\n")
        sys.stdout.write("(raylet) again\n")
        assert sys.stdout.encoding == before.encoding
    assert sys.stdout is before
    sys.stdout.write("(raylet) after\n")
    assert capsys.readouterr().out == "a result\n(rays of light)\n(raylet) after\n"
