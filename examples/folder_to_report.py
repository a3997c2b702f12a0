"""From two folders of crops to a report.

python examples/folder_to_report.py QUERY_FOLDER GALLERY_FOLDER NETWORK LAYOUT OUT
"""

import sys
from pathlib import Path

import regallery as rg


def main(query: str, gallery: str, network: str, layout: str, out: str) -> None:
    """Extract both folders, print the figures, and write the report."""
    places = [str(Path(out, name)) for name in ("query", "gallery")]
    for source, place in zip((query, gallery), places, strict=True):
        print(rg.extract(source, place, network, layout=layout))
    sides = [rg.Gallery.open(place) for place in places]
    print(rg.evaluate(*sides))
    print(rg.evaluate_to_report(*sides, Path(out, "report")).report_html)


if __name__ == "__main__":
    main(*sys.argv[1:])
