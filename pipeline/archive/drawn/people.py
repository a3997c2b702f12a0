"""The people of a drawn archive: their build and their clothes."""

from dataclasses import dataclass

from pipeline.archive.drawn.palette import BOTTOMS, TOPS, Color, Floats, cloth, jitter, stream

_SKIN = ((241, 205, 178), (224, 178, 146), (196, 144, 108), (146, 100, 72), (96, 66, 50))
_HAIR = ((24, 20, 20), (40, 30, 26), (74, 50, 34), (120, 84, 52), (196, 164, 108), (150, 148, 146))
_PATTERNS = (*("plain",) * 8, "stripes", "columns", "checks", "yoke", "print")
_GARMENTS = ("shirt", "sweater", "sweater", "jacket", "hoodie", "coat", "dress")
DRAWN_COLUMNS = 16
"""Facets around a part of the body; facet 0 looks straight ahead."""


@dataclass(frozen=True)
class Person:
    """The constant properties of a person; lengths are parts of the standard height."""

    stature: float
    build: float
    stride: float
    skin: Color
    hair: Color
    hair_style: str
    hat: str
    hat_color: Color
    garment: str
    pattern: str
    upper: Color
    accent: Color
    bottom: str
    lower: Color
    shoes: Color
    bag: str
    bag_color: Color
    print_cells: Floats


def dress(seed: int, identity: int) -> Person:
    """Dress the person of this number; the same seed always gives the same person."""
    rng = stream(seed, "person", identity)

    def pick(*options: str) -> str:
        return options[int(rng.integers(len(options)))]

    return Person(
        stature=0.9 + 0.17 * rng.random(),
        build=0.86 + 0.36 * rng.random(),
        stride=0.3 + 0.25 * rng.random(),
        skin=jitter(rng, _SKIN[int(rng.integers(len(_SKIN)))], 6),
        hair=jitter(rng, _HAIR[int(rng.integers(len(_HAIR)))], 6),
        hair_style=pick("short", "short", "short", "long", "long", "tail", "bald"),
        hat=pick("none", "none", "none", "none", "cap", "beanie"),
        hat_color=cloth(rng, TOPS),
        garment=pick(*_GARMENTS),
        pattern=pick(*_PATTERNS),
        upper=cloth(rng, TOPS),
        accent=cloth(rng, TOPS),
        bottom=pick("trousers", "trousers", "trousers", "jeans", "shorts", "skirt"),
        lower=cloth(rng, BOTTOMS),
        shoes=cloth(rng, BOTTOMS),
        bag=pick("none", "none", "none", "backpack", "backpack", "satchel", "handbag"),
        bag_color=cloth(rng, TOPS),
        print_cells=rng.random((14, DRAWN_COLUMNS)) < 0.3,
    )
