"""Crops cut from a video: ours against a loop of OpenCV's VideoCapture and against crops on disk.

    python benchmarks/video.py --frames 600

Every way ends in the same crops in memory: a network that costs nothing. Ours lists the video and
decodes units; the loop reads every frame and slices it; the third way also writes the loop's crops
as JPEG and decodes these files. The ways take turns, and the median of the rounds' ratios counts.

Then the peak memory of a process that cuts the crops of a short video, and of one ten times as long
with the same frames; and the time to list an archive of many videos, first and again unchanged.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline.archive.decoding.images import decode
from pipeline.archive.planning.units import plan_units, units
from pipeline.archive.video.decoding import cut_boxes
from pipeline.archive.video.listing import list_archive

WIDTH, HEIGHT = 1280, 720


def save(folder, frames, boxes, every):
    """A video of moving noise, and boxes on some of its frames."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 255, (90, 160, 3), np.uint8), (2 * WIDTH, 2 * HEIGHT))
    with av.open(str(folder / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            x, y = number * 3 % WIDTH, number % HEIGHT
            picture = np.ascontiguousarray(ground[y : y + HEIGHT, x : x + WIDTH])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    lines = [
        f"{number + 1},{box},{rng.integers(1, WIDTH - 80)},{rng.integers(1, HEIGHT - 160)},64,128"
        for number in range(0, frames, every)
        for box in range(boxes)
    ]
    (folder / "a.txt").write_text("\n".join(lines))
    return [[int(part) for part in line.split(",")] for line in lines]


def ours(folder):
    listing = list_archive(str(folder / "a.mp4"), afresh=True)
    count = 0
    for unit in units(plan_units(listing.images, "x")):
        count += sum(1 for _ in cut_boxes(listing.root, unit.members, threads=2))
    return count


def by_opencv(folder, boxes, out=None):
    wanted = {}
    for number, _, x, y, width, height in boxes:
        wanted.setdefault(number - 1, []).append((x - 1, y - 1, width, height))
    capture, number, count = cv2.VideoCapture(str(folder / "a.mp4")), 0, 0
    while True:
        found, frame = capture.read()
        if not found:
            return count
        for x, y, width, height in wanted.get(number, ()):
            crop = np.ascontiguousarray(frame[y : y + height, x : x + width, ::-1])
            if out is not None:
                cv2.imwrite(str(out / f"{count:07d}.jpg"), crop[:, :, ::-1])
            count += 1
        number += 1


def by_files(folder, boxes):
    with tempfile.TemporaryDirectory() as out:
        count = by_opencv(folder, boxes, Path(out))
        for path in sorted(Path(out).iterdir()):
            decode(path.read_bytes())
    return count


def repeat(folder, out, times):
    """The same video and boxes, so many times one after the other; nothing is encoded again."""
    out.mkdir()
    lines = (folder / "a.txt").read_text().splitlines()
    with av.open(str(folder / "a.mp4")) as source, av.open(str(out / "a.mp4"), "w") as target:
        old = source.streams.video[0]
        new = target.add_stream_from_template(old)
        packets = [packet for packet in source.demux(old) if packet.size]
        length = max(packet.pts + packet.duration for packet in packets)
        places = [(packet.pts, packet.dts) for packet in packets]
        for turn in range(times):
            for packet, (pts, dts) in zip(packets, places, strict=True):
                packet.stream = new
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                packet.time_base = old.time_base
                target.mux(packet)
        frames = len(packets)
    parts = [line.split(",", 1) for line in lines]
    text = [f"{int(f) + turn * frames},{rest}" for turn in range(times) for f, rest in parts]
    (out / "a.txt").write_text("\n".join(text))


def peak_memory(folder):
    """MiB that a process of its own needs at most to cut all crops."""
    command = [sys.executable, __file__, "--only-cut", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    crops, kib = map(int, done.stdout.split())
    return crops, kib / 1024


def cut_only(folder):
    crops = ours(folder)
    status = Path("/proc/self/status").read_text()
    print(crops, status.partition("VmHWM:")[2].split()[0])


def updates(folder, count, out):
    """Seconds to list an archive of `count` videos for the first time, and again."""
    out.mkdir()
    for number in range(count):
        (out / f"{number}.mp4").hardlink_to(folder / "a.mp4")
        (out / f"{number}.txt").hardlink_to(folder / "a.txt")
    found = []
    for _ in range(3):
        begin = time.perf_counter()
        rows = len(list_archive(str(out)).images)
        found.append(time.perf_counter() - begin)
    return rows, found[0], min(found[1:])


def speeds(folder, boxes, rounds):
    ways = {
        "ours": lambda: ours(folder),
        "VideoCapture": lambda: by_opencv(folder, boxes),
        "crops on disk": lambda: by_files(folder, boxes),
    }
    found = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            if way() != len(boxes):
                raise SystemExit(f"{name} gave another number of crops")
            if turn:  # the first round loads libraries
                found[name].append(time.perf_counter() - begin)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--boxes", type=int, default=4, help="boxes of a frame that has any")
    parser.add_argument("--every", type=int, default=5, help="every n-th frame has boxes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--longer", type=int, default=10, help="0 for no measurement of memory")
    parser.add_argument("--videos", type=int, default=100, help="0 for no measurement of updates")
    parser.add_argument("--only-cut", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.only_cut:
        return cut_only(flags.only_cut)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made, "short")
        folder.mkdir()
        os.environ["XDG_CACHE_HOME"] = str(Path(made, "cache"))
        boxes = save(folder, flags.frames, flags.boxes, flags.every)
        found = speeds(folder, boxes, flags.rounds)
        for name, seconds in found.items():
            pairs = zip(seconds, found["ours"], strict=True)
            ratio = statistics.median(theirs / mine for theirs, mine in pairs)
            rate = len(boxes) / statistics.median(seconds)
            print(f"{name}: {rate:,.0f} boxes a second; ours is {ratio:.2f} times it")
        if flags.longer:
            repeat(folder, Path(made, "long"), flags.longer)
            for name in ("short", "long"):
                crops, peak = peak_memory(Path(made, name))
                print(f"{name} video: {crops:,} crops, {peak:,.0f} MiB at most")
        if flags.videos:
            rows, first, again = updates(folder, flags.videos, Path(made, "many"))
            print(f"{flags.videos} videos, {rows:,} boxes: listed in {first:.2f} s, unchanged in"
                  f" {again:.2f} s")  # fmt: skip
    return None


if __name__ == "__main__":
    main()
