"""`train` on drawn people, by loss, beside the demo's committed network.

    python benchmarks/training.py
    python benchmarks/training.py --epochs 5 --color-jitter 0.3

Draws archives of people whom the demo never shows, as jobs/demo_network/train.py does, and trains
the network `demo` on them from random weights: with softmax or ArcFace, with and without triplets,
each in a process of its own. mAP is that of the demo's archive, queries against gallery. The
committed network was trained with tints, grain and scaling of crops. `train` has tints with
--color-jitter, but no grain or scaling, and hides parts of crops instead. --folder keeps what is
drawn and trained: a run that was stopped goes on.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOSSES = {
    "softmax": ("softmax", "none"),
    "arcface": ("arcface", "none"),
    "softmax + triplets": ("softmax", "batch-hard"),
    "arcface + triplets": ("arcface", "batch-hard"),
}


def draw(folder, archives, people):
    """Draw what a run that was stopped has not drawn."""
    from pipeline.archive.drawn.drawing import draw_archive

    if not (folder / "demo").exists():
        draw_archive(folder / "unfinished")
        (folder / "unfinished").rename(folder / "demo")
    (folder / "train").mkdir(exist_ok=True)
    for number in range(archives):
        if (folder / "train" / str(number)).exists():
            continue
        draw_archive(
            folder / "unfinished", identities=people, cameras=6, crops_per_camera=3, distractors=0,
            junk=0, seed=1000 + number, first_identity=1 + number * people,
        )  # fmt: skip
        (folder / "unfinished").rename(folder / "train" / str(number))


def mean_ap(network, archive, folder):
    import regallery as rg

    sides = []
    for side in ("query", "bounding_box_test"):
        place = str(folder / side)
        rg.extract(str(archive / side), place, network, layout="market1501")
        sides.append(rg.Gallery.open(place))
    return rg.evaluate(*sides).baseline.summary.mean_ap


def run(losses, source, out, options):
    """Train in a process of its own: seconds, and its peak memory in MB."""
    head, triplets = LOSSES[losses]
    command = [
        sys.executable, "-m", "jobs.cli", "train", source, "--layout", "market1501", "--model",
        "demo", "--out", out, "--epochs", options.epochs, "--people", 12, "--crops", 4,
        "--learning-rate", options.learning_rate, "--head", head, "--triplets", triplets,
        "--color-jitter", options.color_jitter, "--shift", options.shift,
        "--erasing", options.erasing, "--held-out", 0, "--actors", 0,
    ]  # fmt: skip
    begun = time.perf_counter()
    child = subprocess.Popen([str(each) for each in command], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"training with {losses} failed")
    cpu = used.ru_utime + used.ru_stime
    return time.perf_counter() - begun, cpu, used.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archives", type=int, default=12)
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--color-jitter", type=float, default=0)
    parser.add_argument("--shift", type=int, default=10)
    parser.add_argument("--erasing", type=float, default=0.5)
    parser.add_argument("--only", nargs="*", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--folder", type=Path, help="keep the drawn crops and the networks here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name) if options.folder is None else options.folder, options)


def compare(folder, options):
    from pipeline.model.networks import NetworkFile

    draw(folder, options.archives, options.people)
    crops = len(list((folder / "train").rglob("*.jpg")))
    people = options.archives * options.people
    print(f"{crops} crops of {people} people, {options.epochs} epochs", flush=True)
    committed = NetworkFile(str(ROOT / "jobs/demo_network/demo.onnx"))
    found = mean_ap(committed, folder / "demo", folder / "committed")
    print(f"{'committed':20} mAP {100 * found:6.2f}", flush=True)
    for losses in options.only:
        out = folder / losses.replace(" ", "")
        seconds, cpu, peak = run(losses, folder / "train", out, options)
        last = json.loads((out / "losses.json").read_text())[-1]
        trained = NetworkFile("demo", str(out / "network.safetensors"))
        found = mean_ap(trained, folder / "demo", out / "galleries")
        told = ", ".join(f"{name} {loss:.3f}" for name, loss in last.items())
        print(
            f"{losses:20} mAP {100 * found:6.2f}  {seconds:6.0f} s ({cpu:.0f} s of CPU)"
            f" {peak:6.0f} MB  ({told})",
            flush=True,
        )


if __name__ == "__main__":
    main()
