"""Crops cut from a video: ours against a loop of OpenCV's VideoCapture, and against crops on disk.

    python benchmarks/video.py --frames 600

Every way ends in the same crops in memory: a network that costs nothing. Ours lists the video and
decodes units; the loop reads every frame and slices it; the third way also writes the loop's crops
as JPEG and decodes these files. The best of some rounds counts.
"""

import argparse
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline.archive.decoding.images import decode
from pipeline.archive.planning.units import plan, units
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
    listing = list_archive(str(folder / "a.mp4"))
    count = 0
    for unit in units(plan(listing.images, "x")):
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--boxes", type=int, default=4, help="boxes of a frame that has any")
    parser.add_argument("--every", type=int, default=5, help="every n-th frame has boxes")
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        boxes = save(folder, flags.frames, flags.boxes, flags.every)
        ways = {
            "ours": lambda: ours(folder),
            "VideoCapture": lambda: by_opencv(folder, boxes),
            "crops on disk": lambda: by_files(folder, boxes),
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(flags.rounds):
            for name, way in ways.items():
                begin = time.perf_counter()
                if way() != len(boxes):
                    raise SystemExit(f"{name} gave another number of crops")
                best[name] = min(best[name], time.perf_counter() - begin)
    for name, seconds in best.items():
        ratio = seconds / best["ours"]
        print(f"{name}: {len(boxes) / seconds:,.0f} boxes a second; ours is {ratio:.2f} times it")


if __name__ == "__main__":
    main()
