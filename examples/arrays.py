"""Metrics, expansion and ranked lists of plain arrays: no files, no Ray.

python examples/arrays.py
"""

import numpy as np

import regallery as rg


def main() -> None:
    """Twenty people seen by two cameras, with noise."""
    rng = np.random.default_rng(0)
    people = rng.normal(size=(20, 64))
    who = np.repeat(np.arange(1, 21), 4)
    features = people[who - 1] + 1.2 * rng.normal(size=(80, 64))
    camera = np.tile(["door", "yard"], 40)
    asked = np.arange(0, 80, 8)  # ten queries by the door
    queries, query_labels = features[asked], (who[asked], camera[asked])

    ways = [rg.Expansion("joint", k=3), rg.Reranking(k1=6, k2=3)]
    print(rg.measure(queries, query_labels, features, (who, camera), ways, normalize=True))
    print(rg.ranked_rows(queries, query_labels, features, (who, camera), k=5, normalize=True))


if __name__ == "__main__":
    main()
