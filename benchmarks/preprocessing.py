"""Crops resized and normalized for a network: ours against Pillow's bicubic.

    python benchmarks/preprocessing.py --crops 1024

Both start from decoded pixels and end in one float32 batch [B, 3, 256, 128], on one thread, round
after round; the figures are medians. The peer resizes with Pillow and normalizes with torchvision's
ToTensor and Normalize, as training scripts do.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from pipeline.archive.decoding.images import decode
from pipeline.archive.drawn.drawing import draw_archive
from pipeline.model.input.preprocessing import (
    empty_batch,
    empty_input,
    fill_batch,
    resize,
    standardize,
)
from pipeline.model.recipe import Recipe

SIZE = (256, 128)
BATCH = 64
RECIPE = Recipe(weights="0" * 64)
TO_TENSOR = transforms.Compose(
    [transforms.ToTensor(), transforms.Normalize(RECIPE.mean, RECIPE.std)]
)


def crops_of(folder, count):
    """Decoded crops of a folder (drawn ones without), repeated until there are `count`."""
    with tempfile.TemporaryDirectory() as drawn:
        if folder is None:
            draw_archive(Path(drawn), identities=8, cameras=3, distractors=8, junk=4)
            folder = drawn
        images = sorted(p for p in Path(folder).rglob("*") if p.suffix in (".jpg", ".png"))
        decoded = [decode(path.read_bytes()) for path in images[:count]]
    return [decoded[i % len(decoded)] for i in range(count)]


def by_pillow_resize(crops):
    for crop in crops:
        np.asarray(Image.fromarray(crop).resize(SIZE[::-1], Image.Resampling.BICUBIC))


def by_our_resize(crops):
    batch = empty_batch(BATCH, SIZE)
    for start in range(0, len(crops), BATCH):
        fill_batch(batch, crops[start : start + BATCH], RECIPE)


def by_pillow(crops):
    for start in range(0, len(crops), BATCH):
        pictures = [Image.fromarray(crop) for crop in crops[start : start + BATCH]]
        torch.stack([TO_TENSOR(p.resize(SIZE[::-1], Image.Resampling.BICUBIC)) for p in pictures])


def by_ours(crops):
    batch, floats = empty_batch(BATCH, SIZE), empty_input((BATCH, 3, *SIZE))
    for start in range(0, len(crops), BATCH):
        standardize(fill_batch(batch, crops[start : start + BATCH], RECIPE), RECIPE, out=floats)


PAIRS = {
    "resize": (by_our_resize, by_pillow_resize),
    "resize and normalize": (by_ours, by_pillow),
}


def seconds(run, crops):
    start = time.perf_counter()
    run(crops)
    return time.perf_counter() - start


def differences(crops):
    """The share of bytes in which the two resizes differ, and by how much at most."""
    gaps = []
    for crop in crops[:200]:
        pillow = np.asarray(Image.fromarray(crop).resize(SIZE[::-1], Image.Resampling.BICUBIC))
        ours = resize(crop, *SIZE).transpose(1, 2, 0)
        gaps.append(np.abs(ours.astype(int) - pillow).ravel())
    gaps = np.concatenate(gaps)
    return (gaps > 0).mean(), gaps.max()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", help="folder of crops (default: drawn ones)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    crops = crops_of(chosen.source, chosen.crops)
    print(f"{len(crops)} crops to {SIZE[0]} x {SIZE[1]}, one thread")
    print(f"{'crops a second':22}{'ours':>9}{'Pillow':>9}{'ratio':>7}")
    for name, (ours, theirs) in PAIRS.items():
        taken = [(seconds(ours, crops), seconds(theirs, crops)) for _ in range(chosen.rounds + 1)]
        mine, its = (statistics.median(each) for each in zip(*taken[1:], strict=True))
        print(f"{name:22}{len(crops) / mine:9.0f}{len(crops) / its:9.0f}{its / mine:7.2f}")
    share, most = differences(crops)
    print(f"{100 * share:.2f} % of bytes differ, by {most} of 255 at most")


if __name__ == "__main__":
    main()
