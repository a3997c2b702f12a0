"""What a data-center GPU does with this: the same bits as the CPU, and how fast.

    python benchmarks/gpu.py FOLDER
    python benchmarks/gpu.py FOLDER --only neighbors ranks
    python benchmarks/gpu.py FOLDER --smoke

Each part runs in a process of its own, for at most its seconds; all take eight minutes at most.
What it finds is in FOLDER/results.json and, to be read, FOLDER/results.txt, both written anew
at every step: a part that fails, or is stopped, loses nothing that stands there. An error is a
result of its step. Peers that are not installed are left out, and said so.

`--smoke` runs everything at tiny sizes, on the CPU where there is no GPU: the figures then mean
nothing. Needs torch, numba, Pillow and simplejpeg.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent

SECONDS = {
    "exact": 120,
    "neighbors": 110,
    "ranks": 95,
    "extraction": 70,
    "memory": 30,
    "actors": 55,
}
"""The parts in their order, and the longest that each may take."""

_SLOWER = 4  # so much longer with --smoke, on a small machine


class Report:
    """The steps of a part, kept in a file from step to step."""

    def __init__(self, path):
        self._path, self.steps = Path(path), {}

    def run(self, name, work):
        """Take a step: what `work()` gives, or the error that it ends in, and its seconds."""
        import traceback

        begun = time.perf_counter()
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 (reported; the next check still runs)
            lines = traceback.format_exc().splitlines()
            found = {"error": f"{type(error).__name__}: {error}"[:500], "where": lines[-12:]}
        self.steps[name] = {**found, "step_seconds": round(time.perf_counter() - begun, 3)}
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(self.steps))
        beside.rename(self._path)
        return found


def device():
    """The device of this benchmark: the GPU, or the CPU where there is none."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def enter(part, path, smoke):
    """Run one part here."""
    # A part imports what it needs, and no more: what is missing for one does not stop another.
    module = "gpu_similarity" if part in ("exact", "neighbors", "ranks") else "gpu_extraction"
    importlib.import_module(module).PARTS[part](Report(path), smoke)


def run_part(part, smoke, told):
    """Run one part in a process of its own; `told` gets what it has found, whenever that grows."""
    longest = SECONDS[part] * (_SLOWER if smoke else 1)
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "found.json", Path(folder) / "log"
        command = [sys.executable, __file__, folder, "--part", part]
        command += ["--smoke"] if smoke else []
        begun = time.perf_counter()
        with log.open("wb") as output:
            child = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
            ended = None
            while ended is None:
                try:
                    status = child.wait(0.5)
                    ended = "finished" if status == 0 else f"ended with status {status}"
                except subprocess.TimeoutExpired:
                    if time.perf_counter() - begun > longest:
                        ended = f"stopped after {longest} s"
                told(_found(path, "running", begun))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # it, where it was stopped, and what it left
        child.wait()
        last = log.read_text(errors="replace").splitlines()[-25:]
        told({**_found(path, ended, begun), "log": last})


def _found(path, state, begun):
    steps = json.loads(path.read_text()) if path.exists() else {}
    return {"state": state, "seconds": round(time.perf_counter() - begun, 1), "steps": steps}


def environment():
    """The machine, and the packages that matter."""
    packages = {}
    for name in ("torch", "numpy", "numba", "torchvision", "simplejpeg", "ray", "certex"):
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = None
    try:
        asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv"]
        gpu = subprocess.run(asked, capture_output=True, text=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        gpu = []
    flags = Path("/proc/cpuinfo").read_text()
    model = [line.split(":")[1].strip() for line in flags.splitlines() if "model name" in line]
    return {
        "gpu": gpu[1:],
        "python": platform.python_version(),
        "packages": packages,
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": model[0] if model else platform.machine(),
        "vnni": "avx512_vnni" in flags or "avx_vnni" in flags,
    }


def write(folder, results):
    """Write both files whole."""
    for name, text in (
        ("results.json", json.dumps(results, indent=1)),
        ("results.txt", told(results)),
    ):
        beside = folder / f".{name}"
        beside.write_text(text)
        beside.rename(folder / name)


def told(results):
    """The results, to be read."""
    lines = [f"{key}: {value}" for key, value in results["environment"].items()]
    for part, found in results["parts"].items():
        lines += ["", f"{part}: {found['state']}, {found['seconds']} s"]
        for step, facts in found["steps"].items():
            shown = {k: v for k, v in facts.items() if k not in ("where", "step_seconds")}
            lines.append(f"  {step}  [{facts['step_seconds']} s]")
            lines += [f"    {key}: {value}" for key, value in shown.items()]
            lines += [f"      {line}" for line in facts.get("where", [])[-4:]]
        if found["state"] not in ("finished", "running"):
            lines += [f"  | {line}" for line in found.get("log", [])[-12:]]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the results go")
    parser.add_argument("--only", nargs="+", choices=list(SECONDS), default=list(SECONDS))
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--part", choices=list(SECONDS), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        enter(chosen.part, chosen.folder / "found.json", chosen.smoke)
        return 0
    chosen.folder.mkdir(parents=True, exist_ok=True)
    results = {"environment": environment(), "smoke": chosen.smoke, "parts": {}}
    for part in chosen.only:

        def keep(found, part=part):
            results["parts"][part] = found
            write(chosen.folder, results)

        run_part(part, chosen.smoke, keep)
    print(told(results))
    ended = [found["state"] == "finished" for found in results["parts"].values()]
    errors = [
        step
        for found in results["parts"].values()
        for step in found["steps"].values()
        if "error" in step or step.get("equal") is False
    ]
    return 0 if all(ended) and not errors else 1


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    sys.exit(main())
