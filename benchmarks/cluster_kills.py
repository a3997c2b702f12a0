"""Machines that come and go: a cluster of three on the loopback address, with a token.

    python benchmarks/cluster_kills.py --crops 3000 --rows 40000
    python benchmarks/cluster_kills.py --only extract --event node worker

The head takes no work, and two machines have a CPU each. An extraction and a neighbor graph
(`expand`) are run once undisturbed, and then again for each event: another machine joins; a machine
is drained (a warning of preemption), or loses its power (`kill -9` of all its processes); `kill -9`
of an actor or of the worker of a tile; `kill -9` of the driver, after which the same command is run
again. Told is the time from the event to the next unit or tile that was finished, and the longest
time after it in which none was. The results must equal those of the undisturbed run to the byte.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from contest import clustered
from PIL import Image

from tests.head_node import head_node, lost, machine

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "jobs" / "demo_network" / "demo.onnx"
EVENTS = ("join", "drain", "node", "worker", "driver")
# Begin at this share of the files that an undisturbed run makes.
BEGIN = 0.25


def make_crops(folder, count):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 50 + 1:04d}_c{number % 6 + 1}s1_{number:06d}_00.jpg"
        Image.fromarray(rng.integers(0, 256, (256, 128, 3), dtype=np.uint8)).save(path, quality=90)


def make_gallery(folder, rows):
    """A gallery of features that no network made."""
    np.save(folder / "features.npy", clustered(rows, 512))
    lines = "".join(f"{number}.jpg,{number % 6}\n" for number in range(rows))
    (folder / "rows.csv").write_text(f"path,camera\n{lines}")
    command = ["import", folder / "features.npy", "--gallery", folder / "parent", "--format", "npy"]
    regallery([*command, "--made-by", "a draw"], dict(os.environ)).wait()


def regallery(arguments, environment):
    """A command of its own; what it prints goes to standard error where it fails."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments), "--json"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )


class Extract:
    name, thing = "extract", "unit"

    def __init__(self, folder, crops):
        self.source = folder / "source"
        make_crops(self.source, crops)

    def command(self, out, address):
        flags = ("--unit-size", 64, "--layout", "market1501")
        return ("extract", self.source, "--gallery", out, "--model", MODEL, *flags, "--address",
                address)  # fmt: skip

    def finished(self, out):
        return {path.name for path in out.glob("*.parquet")}

    def contents(self, out):
        return {path.name: path.read_bytes() for path in out.glob("*.parquet")}


class Expand:
    name, thing = "expand", "tile"

    def __init__(self, folder, rows):
        self.parent = folder / "parent"
        make_gallery(folder, rows)

    def command(self, out, address):
        return ("expand", "--gallery", self.parent, "--out", out, "--workers", 3, "--address",
                address)  # fmt: skip

    def finished(self, out):
        graph = out / "_graph"
        return {path.name for kind in ("open", "rows") for path in graph.glob(f"*/{kind}-*")}

    def contents(self, out):
        from pipeline.gallery.table import Gallery

        opened = Gallery.open(str(out))
        return opened.rows().to_pylist(), opened.features().read(0, opened.count).tobytes()


def processes_of(word, session):
    """Ray's processes of a machine whose title has this word."""
    told = subprocess.run(["ps", "-eo", "pid,sid,args"], capture_output=True, text=True, check=True)
    found = []
    for line in told.stdout.splitlines()[1:]:
        pid, sid, title = line.split(maxsplit=2)
        if int(sid) == session and title.startswith("ray::") and word in title:
            found.append(int(pid))
    return found


def drain(head):
    """Warn a machine: it is to end in 20 seconds, when its power goes."""
    code = (
        "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR');"
        "print([n['NodeID'] for n in ray.nodes() if n['Alive'] and n['Resources'].get('CPU')][-1])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, head.address], env=head.environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    node = told.stdout.split()[-1]
    command = (
        f"ray drain-node --address={head.address} --node-id={node} --deadline-remaining-seconds=20"
        " --reason=DRAIN_NODE_REASON_PREEMPTION --reason-message=preempted"
    )
    subprocess.run(command.split(), env=head.environment, check=True, stdout=subprocess.DEVNULL)


def run(work, out, head, machines, event, begin_at):
    """Run the command with an event in it: seconds in all, and to the next thing that finished."""
    begin = time.perf_counter()
    driver = regallery(work.command(out, head.address), head.environment)
    try:
        return watched(work, out, head, machines, event, begin_at, driver, begin)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)


def watched(work, out, head, machines, event, begin_at, driver, begin):
    happened, following, latest, longest, most = None, None, 0.0, 0.0, set()
    while driver.poll() is None:
        time.sleep(0.02)
        found, now = work.finished(out), time.perf_counter()
        if happened is None:
            most |= found
            if event and len(most) >= begin_at:
                driver = happen(work, out, head, machines, event, driver)
                # What ends in the same moment was not made after it.
                time.sleep(0.1)
                happened = latest = time.perf_counter() - 0.1
                most |= work.finished(out)
        elif found - most:
            following = following or now - happened
            latest, longest, most = now, max(longest, now - latest), most | found
    if driver.returncode:
        raise SystemExit(f"{work.name}, {event}: status {driver.returncode}")
    if event and following is None:
        raise SystemExit(
            f"{work.name}: it ended before the event {event}, or nothing came after it"
        )
    return time.perf_counter() - begin, following, longest, most


def happen(work, out, head, machines, event, driver):
    """Let it happen; the driver that goes on."""
    if event == "join":
        machines.append(machines.stack.enter_context(machine(head)))
    elif event == "drain":
        drain(head)
    elif event == "node":
        lost(machines[-1])
    elif event == "worker":
        word = "MapWorker" if work.name == "extract" else "_meet"
        victims = [pid for each in machines for pid in processes_of(word, each.pid)]
        os.kill(victims[0], signal.SIGKILL)
    elif event == "driver":
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        return regallery(work.command(out, head.address), head.environment)
    return driver


class Machines(list):
    """The machines of a cluster, which end with the stack."""

    def __init__(self, stack):
        super().__init__()
        self.stack = stack


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--only", choices=("extract", "expand"))
    parser.add_argument("--event", choices=EVENTS, nargs="+", default=EVENTS)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends what was started
    folder = Path(tempfile.mkdtemp())
    try:
        for kind, size in ((Extract, given.crops), (Expand, given.rows)):
            if given.only not in (None, kind.name):
                continue
            work = kind(folder, size)
            wanted, seen = None, set()
            for event in (None, *given.event):
                out = folder / "out"
                with contextlib.ExitStack() as stack:
                    head = stack.enter_context(head_node(num_cpus=0))
                    machines = Machines(stack)
                    for _ in range(2):
                        machines.append(stack.enter_context(machine(head)))
                    begin_at = 1 if wanted is None else max(2, int(BEGIN * len(seen)))
                    seconds, following, longest, names = run(
                        work, out, head, machines, event, begin_at
                    )
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
                shutil.rmtree(out)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
