"""A gallery by a network of your own: any function from crops to features.

python examples/own_network.py FOLDER LAYOUT GALLERY
"""

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import regallery as rg


def color_stripes(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """The mean color of eight stripes of each crop `[N, 24]`: put your network here."""
    stripes = [[part.mean((0, 1)) for part in np.array_split(crop, 8)] for crop in crops]
    return np.asarray(stripes, np.float32).reshape(len(crops), -1) - 127.5


def main(source: str, layout: str, place: str) -> None:
    """Extract a folder with it, and measure the gallery against itself."""
    network = rg.NetworkFunction(color_stripes, name="mean colors of 8 stripes")
    print(rg.extract(source, place, network, layout=layout))
    gallery = rg.Gallery.open(place)
    print(rg.evaluate(gallery, gallery))


if __name__ == "__main__":
    main(*sys.argv[1:])
