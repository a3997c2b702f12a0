"""What 20 verdicts are worth: those that `mine` proposes, and as many on random pairs.

    python benchmarks/verdicts.py FOLDER [--people 96] [--verdicts 20] [--seeds 5]

Draws an archive, extracts it with the network of the demo, links it, gives verdicts by the true
identities, and links again at the same threshold. Random pairs are any two rows, or the two rows of
a link within 0.1 of the threshold. Prints B-cubed precision, recall and F for each seed.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

from pipeline.archive.drawn.drawing import draw_archive
from pipeline.core.identities.clustering import Agreement
from pipeline.core.identities.linking import Linking, Links, mutual_links
from pipeline.core.neighbors.pairs import neighbors
from pipeline.gallery.table import Gallery
from pipeline.runs.extraction import extract
from pipeline.runs.linked import LinkSettings
from pipeline.runs.linking import link
from pipeline.runs.mined import MineSettings
from pipeline.runs.mining import mine
from pipeline.runs.verdict_results import GivenVerdict
from pipeline.runs.verdicts import give_verdicts

NETWORK = Path(__file__).parents[1] / "jobs" / "demo_network" / "demo.onnx"
NEAR = 0.1


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=96)
    parser.add_argument("--verdicts", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    make_gallery(given.folder, given.people)
    threshold, before = linked(given.folder, None)
    print(f"threshold {threshold:.4f}; without verdicts: {shown(before)}")
    gallery = Gallery.open(str(given.folder / "g"))
    proposed = mine(gallery, MineSettings(given.verdicts, threshold=threshold)).proposed
    report("mine", given.folder, threshold, [[(each.a, each.b) for each in proposed]])
    near = near_links(gallery, threshold)
    ways = {"random links near the threshold": near, "random pairs": None}
    for name, links in ways.items():
        drawn = [draw(gallery, links, given.verdicts, seed) for seed in range(given.seeds)]
        report(name, given.folder, threshold, drawn)


def make_gallery(folder: Path, people: int) -> None:
    """Draw an archive without junk and strangers, and extract it."""
    shutil.rmtree(folder, ignore_errors=True)
    counts = {"identities": people, "cameras": 4, "crops_per_camera": 2}
    draw_archive(folder / "archive", **counts, distractors=0, junk=0)
    source = str(folder / "archive" / "bounding_box_test")
    extract(source, str(folder / "g"), str(NETWORK), layout="market1501")


def linked(folder: Path, threshold: float | None) -> tuple[float, Agreement]:
    """The threshold of a link, and how well its groups agree with the identities."""
    gallery, out = Gallery.open(str(folder / "g")), folder / "links.parquet"
    done = link(gallery, out, LinkSettings(threshold=threshold))
    return done.threshold, done.agreement


def report(name: str, folder: Path, threshold: float, tries: list[list[tuple[int, int]]]) -> None:
    """Give the verdicts of each try, link, and take them back by deleting them."""
    found = []
    for number, pairs in enumerate(tries):
        gallery = Gallery.open(str(folder / "g"))
        identity = gallery.rows()["identity"].to_numpy()
        ids = gallery.row_ids().tolist()
        known = dict(zip(ids, identity.tolist(), strict=True))
        words = ["same" if known[a] == known[b] else "different" for a, b in pairs]
        given = [GivenVerdict(a, b, word) for (a, b), word in zip(pairs, words, strict=True)]
        give_verdicts(gallery, given, who="truth")
        found.append(linked(folder, threshold)[1])
        print(f"{name}, {number}: {words.count('same')} same; {shown(found[-1])}")
        give_verdicts(gallery, [GivenVerdict(a, b, "withdrawn") for a, b in pairs], who="truth")
    print(f"{name}: mean F {np.mean([each.f_score for each in found]):.4f}")


def near_links(gallery: Gallery, threshold: float) -> Links:
    """The links whose similarity is near the threshold."""
    links = mutual_links(neighbors(gallery.array(), LinkSettings.k), Linking(-1.0, LinkSettings.k))
    near = np.abs(links.scores - threshold) <= NEAR
    return Links(links.first[near], links.second[near], links.scores[near])


def draw(gallery: Gallery, links: Links | None, count: int, seed: int) -> list[tuple[int, int]]:
    """Row ids of random pairs: of `links`, or any."""
    rng, ids = np.random.default_rng(seed), gallery.row_ids()
    if links is None:
        ends = np.array([rng.choice(len(ids), 2, replace=False) for _ in range(count)])
    else:
        chosen = rng.choice(len(links), count, replace=False)
        ends = np.stack([links.first[chosen], links.second[chosen]], axis=1)
    return [tuple(pair) for pair in np.sort(ids[ends], axis=1).tolist()]


def shown(found: Agreement) -> str:
    """The figures of an agreement."""
    return f"precision {found.precision:.4f}, recall {found.recall:.4f}, F {found.f_score:.4f}"


if __name__ == "__main__":
    main()
