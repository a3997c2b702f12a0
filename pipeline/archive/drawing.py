"""Draw a small labelled multi-camera archive of people, for the demo, its network and tests.

Each part of a person (torso, head, limbs, bag) is a stack of horizontal ellipses, posed in space,
turned, lit, and painted back to front with Pillow; a camera is a backdrop, a light, a colour cast,
blur and noise. Every drawing has its own random stream, seeded by what it shows, so one crop's
bytes depend neither on the other crops nor on the order or process they are drawn in.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipeline.errors import InputError

Colour = tuple[float, float, float]
Floats = np.ndarray

# Red, green, blue and how often tops and bottoms have the colour: dark and plain ones are common,
# so that many people look alike and colour alone does not decide.
_CLOTH: tuple[tuple[int, int, int, int, int], ...] = (
    (30, 30, 34, 24, 28),  # black
    (66, 68, 74, 14, 12),  # charcoal
    (132, 134, 138, 9, 8),  # grey
    (226, 226, 222, 14, 4),  # white
    (34, 44, 84, 14, 20),  # navy
    (54, 92, 160, 7, 12),  # blue
    (132, 174, 212, 5, 5),  # sky
    (178, 40, 44, 8, 2),  # red
    (104, 34, 50, 4, 2),  # burgundy
    (216, 138, 160, 3, 1),  # pink
    (214, 120, 48, 3, 1),  # orange
    (222, 192, 76, 3, 1),  # yellow
    (52, 116, 70, 4, 1),  # green
    (100, 100, 64, 3, 5),  # olive
    (110, 78, 54, 3, 5),  # brown
    (196, 176, 142, 4, 8),  # beige
    (104, 70, 142, 2, 1),  # purple
    (36, 124, 126, 2, 1),  # teal
)
_TOP, _BOTTOM = 3, 4  # columns of the table: how often
_SKIN = ((241, 205, 178), (224, 178, 146), (196, 144, 108), (146, 100, 72), (96, 66, 50))
_HAIR = ((24, 20, 20), (40, 30, 26), (74, 50, 34), (120, 84, 52), (196, 164, 108), (150, 148, 146))
_PATTERNS = (*("plain",) * 8, "stripes", "columns", "checks", "yoke", "print")
_GARMENTS = ("shirt", "sweater", "sweater", "jacket", "hoodie", "coat", "dress")
_COLUMNS = 16  # facets around a part; facet 0 looks straight ahead
_EDGES = [2 * math.pi * (column - 0.5) / _COLUMNS for column in range(_COLUMNS + 1)]
_RING = np.array([[math.sin(a), math.cos(a)] for a in _EDGES])  # across, ahead
_CANVAS = 300  # height in pixels at which a crop is drawn before it is shrunk


@dataclass(frozen=True)
class _Person:
    """What stays the same wherever a person is seen; lengths are parts of the standard height."""

    stature: float
    build: float
    stride: float
    skin: Colour
    hair: Colour
    hair_style: str
    hat: str
    hat_colour: Colour
    garment: str
    pattern: str
    upper: Colour
    accent: Colour
    bottom: str
    lower: Colour
    shoes: Colour
    bag: str
    bag_colour: Colour
    print_cells: Floats


@dataclass(frozen=True)
class _Camera:
    """What stays the same for every crop of a camera: backdrop, light and the way it records."""

    backdrop: Image.Image
    sun: Colour
    ambient: float
    tilt: float
    curve: Floats  # [256, 3] what a level of red, green and blue is recorded as
    saturation: float
    blur: float
    noise: float
    quality: int
    height: tuple[int, int]


@dataclass(frozen=True)
class _Pose:
    """How a person stands: facing 0 looks into the camera; phase is that of the step (radians)."""

    facing: float
    phase: float
    stride: float


@dataclass(frozen=True)
class ArchiveCounts:
    """How many crops an archive holds; `gallery` counts distractors and junk too."""

    identities: int
    cameras: int
    queries: int
    gallery: int
    distractors: int
    junk: int


def _person(seed: int, identity: int) -> _Person:
    """Dress the person of this number: the same one for the same seed, always."""
    rng = _stream(seed, "person", identity)

    def pick(*options: str) -> str:
        return options[int(rng.integers(len(options)))]

    return _Person(
        stature=0.9 + 0.17 * rng.random(),
        build=0.86 + 0.36 * rng.random(),
        stride=0.3 + 0.25 * rng.random(),
        skin=_jitter(rng, _SKIN[int(rng.integers(len(_SKIN)))], 6),
        hair=_jitter(rng, _HAIR[int(rng.integers(len(_HAIR)))], 6),
        hair_style=pick("short", "short", "short", "long", "long", "tail", "bald"),
        hat=pick("none", "none", "none", "none", "cap", "beanie"),
        hat_colour=_cloth(rng, _TOP),
        garment=pick(*_GARMENTS),
        pattern=pick(*_PATTERNS),
        upper=_cloth(rng, _TOP),
        accent=_cloth(rng, _TOP),
        bottom=pick("trousers", "trousers", "trousers", "jeans", "shorts", "skirt"),
        lower=_cloth(rng, _BOTTOM),
        shoes=_cloth(rng, _BOTTOM),
        bag=pick("none", "none", "none", "backpack", "backpack", "satchel", "handbag"),
        bag_colour=_cloth(rng, _TOP),
        print_cells=rng.random((14, _COLUMNS)) < 0.3,
    )


def _stream(seed: int, *key: str | int) -> np.random.Generator:
    """Open the random stream of one drawn thing, named by words and numbers."""
    words = [part.encode() if isinstance(part, str) else [part] for part in key]
    numbers = tuple(number for word in words for number in word)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=numbers))


def _cloth(rng: np.random.Generator, weight: int) -> Colour:
    mark = rng.random() * sum(entry[weight] for entry in _CLOTH)
    running = accumulate(entry[weight] for entry in _CLOTH)
    chosen = next(entry for entry, end in zip(_CLOTH, running, strict=True) if mark < end)
    return _jitter(rng, chosen[:3], 9)


def _jitter(rng: np.random.Generator, colour: tuple[int, int, int], spread: float) -> Colour:
    red, green, blue = (max(8.0, min(248.0, c + spread * (2 * rng.random() - 1))) for c in colour)
    return red, green, blue


# ---- the figure: parts of the body as stacks of rings


@dataclass(frozen=True)
class _Part:
    points: Floats  # [R, COLUMNS + 1, 3] across, up, ahead
    colours: Floats  # [R - 1, COLUMNS, 3]


def _part(joints: Floats, radii: Floats, colours: Floats, rings: int) -> _Part:
    """Interpolate joints `[J, 3]` and radii `[J, 2]` to rings, all of them horizontal."""
    between = _between(len(joints), rings)
    width = between @ radii
    points = np.repeat((between @ joints)[:, None], _COLUMNS + 1, axis=1)
    points[..., ::2] += width[:, None] * _RING
    return _Part(points, np.broadcast_to(colours, (rings - 1, _COLUMNS, 3)))


@cache
def _between(joints: int, rings: int) -> Floats:
    """Weights `[rings, joints]` of rings spread evenly from the first joint to the last."""
    at = np.linspace(0, joints - 1, rings)
    return np.maximum(0, 1 - abs(at[:, None] - np.arange(joints)))


def _rows(*runs: tuple[int, Colour]) -> Floats:
    """Colours `[R, 1, 3]` from runs of rows, top to bottom."""
    return np.concatenate([np.broadcast_to(colour, (count, 1, 3)) for count, colour in runs])


def _figure(person: _Person, pose: _Pose) -> list[_Part]:
    """Return the parts of a person of height 1 who stands at the origin and looks ahead."""
    parts = [_torso(person), *_head(person)]
    for side in (-1.0, 1.0):
        swing = math.sin(pose.phase) * side * pose.stride
        parts += [*_leg(person, pose, side, swing), _arm(person, side, -swing)]
    long_skirt = person.garment == "dress"
    if long_skirt or person.bottom == "skirt":
        colour, end = (person.upper, 0.30) if long_skirt else (person.lower, 0.33)
        flare = 0.10 + 0.12 * pose.stride * abs(math.sin(pose.phase))
        joints = np.array([[0, 0.56, 0], [0, 0.46, 0], [0, end, 0]])
        radii = np.array([[0.1, 0.07], [0.118, 0.085], [0.125, flare]]) * person.build
        parts.append(_part(joints, radii, np.array(colour), 5))
    elif person.garment == "coat":
        joints = np.array([[0, 0.52, 0], [0, 0.36, -0.01]])
        radii = np.array([[0.122, 0.09], [0.132, 0.105 + 0.05 * pose.stride]]) * person.build
        parts.append(_part(joints, radii, np.array(person.upper), 4))
    return [*parts, *_bag(person)]


def _torso(person: _Person) -> _Part:
    up = np.array([0.845, 0.825, 0.80, 0.755, 0.70, 0.63, 0.56, 0.515, 0.465])
    across = np.array([0.03, 0.085, 0.122, 0.122, 0.116, 0.104, 0.104, 0.112, 0.108])
    ahead = np.array([0.03, 0.05, 0.066, 0.078, 0.082, 0.078, 0.076, 0.08, 0.076])
    if person.garment in ("jacket", "coat", "hoodie"):
        across, ahead = across + 0.008, ahead + 0.01
    joints = np.stack([0 * up, up, 0 * up], axis=1)
    radii = np.stack([across, ahead], axis=1) * person.build
    return _part(joints, radii, _torso_cloth(person), 15)


def _torso_cloth(person: _Person) -> Floats:
    cloth = np.broadcast_to(person.upper, (14, _COLUMNS, 3)).copy()
    row, column = np.mgrid[:14, :_COLUMNS]
    second = {
        "plain": np.zeros((14, _COLUMNS), bool),
        "stripes": row // 2 % 2 == 1,
        "columns": column % 2 == 1,
        "checks": (row // 2 + column // 2) % 2 == 1,
        "yoke": row < 5,
        "print": person.print_cells,
    }[person.pattern]
    cloth[second] = person.accent
    front = np.isin(column, (_COLUMNS - 1, 0, 1))
    if person.garment == "jacket":  # worn open over a shirt
        cloth[front] = person.accent
    elif person.garment == "coat":
        cloth[column == 0] = np.multiply(person.upper, 0.6)
    elif person.garment == "shirt" and person.pattern == "plain":  # a picture on the chest
        cloth[front & (row > 3) & (row < 7)] = person.accent
    elif person.garment == "hoodie":
        cloth[(row < 4) & (abs(column - 8) < 4)] = np.multiply(person.upper, 0.75)
    if person.garment in ("shirt", "sweater"):  # trousers begin at the waist
        cloth[12:] = person.lower
    if person.bag == "backpack":
        cloth[np.isin(column, (2, _COLUMNS - 2)) & (row < 8)] = person.bag_colour
    elif person.bag == "satchel":  # the strap runs from one shoulder to the other hip
        cloth[abs((column + 4) % _COLUMNS - 1 - row * 0.6) < 0.8] = person.bag_colour
    return cloth


def _head(person: _Person) -> Iterator[_Part]:
    neck = np.array([[0, 0.87, 0.01], [0, 0.82, 0]])
    yield _part(neck, np.array([[0.032, 0.036], [0.038, 0.04]]), np.array(person.skin), 2)
    turn = np.linspace(0.12, math.pi - 0.35, 9)
    joints = np.stack([0 * turn, 0.922 + 0.078 * np.cos(turn), 0 * turn + 0.012], axis=1)
    radii = np.sin(turn)[:, None] * np.array([0.05, 0.062])
    face = np.broadcast_to(person.skin, (8, _COLUMNS, 3)).copy()
    row, column = np.mgrid[:8, :_COLUMNS]
    behind = np.minimum(column, _COLUMNS - column)
    if person.hair_style != "bald":
        face[(row < 2) | ((behind > 3) & (row < 5)) | ((behind > 5) & (row < 7))] = person.hair
    face[(behind == 1) & (row == 4)] = np.multiply(person.skin, 0.45)  # eyes
    face[(behind == 0) & (row == 6)] = np.multiply(person.skin, 0.7)  # mouth
    if person.hat != "none":
        face[row < 3] = person.hat_colour
        radii[:4] *= 1.1
    yield _part(joints, radii, face, 9)
    if person.hat == "cap":
        brim = np.array([[0, 0.955, 0.055], [0, 0.945, 0.06]])
        yield _part(brim, np.array([[0.03, 0.03], [0.045, 0.055]]), np.array(person.hat_colour), 2)
    if person.hair_style in ("long", "tail"):
        wide = 0.054 if person.hair_style == "long" else 0.02
        joints = np.array([[0, 0.965, -0.025], [0, 0.89, -0.045], [0, 0.765, -0.075]])
        radii = np.array([[wide * 0.6, 0.03], [wide, 0.035], [wide * 0.9, 0.02]])
        yield _part(joints, radii, np.array(person.hair), 4)


def _leg(person: _Person, pose: _Pose, side: float, swing: float) -> Iterator[_Part]:
    bend = 1.3 * pose.stride * max(0.0, math.cos(pose.phase) * side) ** 2 + 0.06
    x = 0.052 * side * person.build
    knee = (x, 0.5 - 0.235 * math.cos(swing), 0.235 * math.sin(swing))
    ankle = (x, knee[1] - 0.23 * math.cos(swing - bend), knee[2] + 0.23 * math.sin(swing - bend))
    width = np.array([0.062, 0.046, 0.034 if person.bottom != "trousers" else 0.042]) * person.build
    width[1:] *= 0.85 if person.bottom in ("skirt", "shorts") else 1
    bare = {"skirt": 1, "shorts": 3}.get(person.bottom, 6)
    colours = _rows((bare, person.lower), (6 - bare, person.skin))
    yield _part(np.array([(x, 0.5, 0), knee, ankle]), np.stack([width, width * 1.1], 1), colours, 7)
    y, z = ankle[1], ankle[2]
    foot = np.array([[x, y + 0.02, z], [x, y - 0.01, z + 0.02], [x, y - 0.035, z + 0.025]])
    yield _part(
        foot, np.array([[0.03, 0.035], [0.034, 0.055], [0.034, 0.062]]), np.array(person.shoes), 4
    )


def _arm(person: _Person, side: float, swing: float) -> _Part:
    x = 0.128 * side * person.build
    elbow = (x * 1.12, 0.80 - 0.165 * math.cos(swing), 0.165 * math.sin(swing))
    bent = swing + 0.35
    hand = (x * 1.08, elbow[1] - 0.185 * math.cos(bent), elbow[2] + 0.185 * math.sin(bent))
    width = np.array([0.012, 0.038, 0.034, 0.024]) * person.build
    sleeve = 3 if person.garment in ("shirt", "dress") else 5
    colours = _rows((sleeve, person.upper), (6 - sleeve, person.skin))
    if person.pattern == "stripes":
        colours[1:sleeve:2] = person.accent
    if person.pattern == "yoke":
        colours[:2] = person.accent
    joints = np.array([(x * 0.8, 0.828, 0), (x, 0.795, 0), elbow, hand])
    return _part(joints, np.stack([width, width], 1), colours, 7)


def _bag(person: _Person) -> Iterator[_Part]:
    place = {
        "backpack": ([0, 0.8, -0.125], [0, 0.57, -0.135], [0.085, 0.055]),
        "satchel": ([-0.14, 0.56, 0.0], [-0.14, 0.43, 0.0], [0.035, 0.085]),
        "handbag": ([0.165, 0.5, 0.02], [0.165, 0.37, 0.02], [0.03, 0.075]),
    }
    if person.bag == "none":
        return
    top, bottom, radius = (np.array(value) for value in place[person.bag])
    lip = np.array([0, 0.01, 0])
    joints = np.array([top + lip, top, bottom, bottom - lip])
    radii = np.array([radius * 0.5, radius, radius, radius * 0.6]) * person.build
    yield _part(joints, radii, np.array(person.bag_colour), 4)


def _paint(
    draw: ImageDraw.ImageDraw,
    person: _Person,
    pose: _Pose,
    camera: _Camera,
    at: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    """Paint a person with the feet at pixel (x, y) and `scale` pixels a unit of height."""
    x, y, scale = at
    draw.ellipse(
        (x - 0.2 * scale, y - 0.03 * scale, x + 0.2 * scale, y + 0.04 * scale), fill=(74, 72, 72)
    )
    parts = _figure(person, pose)
    colours = np.concatenate([part.colours for part in parts])
    turn, tilt = _rotation(pose.facing, 0, 2), _rotation(-camera.tilt, 1, 2)
    points = np.concatenate([part.points for part in parts]) @ (turn @ tilt)
    ends = np.cumsum([len(part.points) for part in parts])
    top = np.delete(points, ends - 1, axis=0)  # all rings but each part's last
    low = np.delete(points, [0, *ends[:-1]], axis=0)  # all rings but each part's first
    u, v = low[:, 1:] - top[:, :-1], low[:, :-1] - top[:, 1:]  # the diagonals of each facet
    seen = u[..., 1] * v[..., 0] > u[..., 0] * v[..., 1]
    corners = np.stack([top[:, :-1], top[:, 1:], low[:, 1:], low[:, :-1]], axis=2)[seen]
    normal = np.cross(v[seen], u[seen])
    lit = normal @ np.array(camera.sun) / (np.sqrt((normal**2).sum(axis=1)) + 1e-9)
    light = camera.ambient + (1 - camera.ambient) * np.maximum(lit, 0)
    light *= 0.95 + 0.1 * rng.random(len(light))  # folds
    shade = np.minimum(colours[seen] * light[:, None], 255).astype(np.uint8)
    order = np.argsort(corners[..., 2].sum(axis=1), kind="stable")  # far to near
    size = scale * person.stature
    outlines = (corners[order, :, :2] * [size, -size] + [x, y]).reshape(-1, 8).tolist()
    for outline, fill in zip(outlines, map(tuple, shade[order].tolist()), strict=True):
        draw.polygon(outline, fill=fill)


def _rotation(angle: float, first: int, second: int) -> Floats:
    """Matrix that turns row vectors by an angle (radians) in the plane of two of the axes."""
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[second, first], matrix[first, second] = math.sin(angle), -math.sin(angle)
    return matrix


# ---- cameras


# Wall and ground; gain of red, green and blue; then gamma, saturation, blur (pixels of a crop 128
# high), noise (grey levels), JPEG quality, smallest and largest crop (pixels).
_STYLES = {
    "trees": ((176, 160, 140), (188, 182, 170), (1.05, 1, 0.92), (0.9, 1, 0.5, 5, 88, 128, 224)),
    "windows": ((120, 124, 134), (104, 106, 110), (0.9, 1, 1.1), (1.2, 0.8, 0.9, 8, 80, 88, 160)),
    "posters": (
        (206, 196, 170),
        (150, 140, 128),
        (1.16, 0.95, 0.7),
        (1, 0.9, 0.7, 7, 84, 112, 192),
    ),
    "cars": ((84, 88, 100), (76, 78, 84), (0.84, 0.94, 1), (1.15, 0.65, 1.2, 13, 74, 72, 136)),
}


def _camera(seed: int, number: int) -> _Camera:
    """Set up the camera of this number, whose style goes round with the number."""
    rng = _stream(seed, "camera", number)
    things = list(_STYLES)[(number - 1) % len(_STYLES)]
    wall, ground, gains, rest = _STYLES[things]

    def vary(value: float, part: float) -> float:
        return value * (1 + part * (2 * rng.random() - 1))

    gamma, gain = vary(rest[0], 0.1), [vary(part, 0.1) for part in gains]
    slant = 2.4 * rng.random() - 1.2
    return _Camera(
        backdrop=_backdrop(rng, _jitter(rng, wall, 24), _jitter(rng, ground, 20), things),
        sun=(math.sin(slant) * 0.8, 0.6, math.cos(slant) * 0.8),
        ambient=vary(0.5, 0.2),
        tilt=vary(0.16, 0.7),
        curve=np.array([[255 * g * (level / 255) ** gamma for g in gain] for level in range(256)]),
        saturation=vary(rest[1], 0.15),
        blur=vary(rest[2], 0.3),
        noise=vary(rest[3], 0.3),
        quality=int(rest[4]),
        height=(int(rest[5]), int(rest[6])),
    )


def _backdrop(rng: np.random.Generator, wall: Colour, ground: Colour, things: str) -> Image.Image:
    """Draw the place a camera looks at, wide enough that every crop shows another part of it."""
    width, height, foot = 1400, 460, 215
    scene = Image.new("RGB", (width, height), _rgb(wall))
    draw = ImageDraw.Draw(scene)
    for y in range(foot, height):
        draw.line((0, y, width, y), fill=_rgb(np.multiply(ground, 0.8 + 0.3 * (y - foot) / 245)))
    for end in range(-1500, 2900, 130):  # joints of the paving run to a vanishing point
        start = 700 + (end - 700) * 0.45
        draw.line((start, foot, end, height), _rgb(np.multiply(ground, 0.82)), 3)
    for y in (230, 255, 295, 355, 440):
        draw.line((0, y, width, y), _rgb(np.multiply(ground, 0.84)), 3)
    left = 0.0
    while left < width:
        x = left
        wide, tall = 50 + 70 * rng.random(), 90 + 60 * rng.random()
        tint = _cloth(rng, _TOP)
        if things == "trees":
            draw.rectangle((x + 24, foot - 80, x + 36, foot + 12), fill=(88, 70, 54))
            for _ in range(14):
                cx, cy = x + 30 + 80 * (rng.random() - 0.5), foot - 90 - 90 * rng.random()
                green = 60 + 70 * rng.random()
                draw.ellipse((cx - 22, cy - 18, cx + 22, cy + 18), _rgb((green * 0.7, green, 48)))
        elif things == "cars":
            draw.rounded_rectangle((x, foot - 40, x + 2 * wide, foot + 22), 16, _rgb(tint))
            draw.rounded_rectangle(
                (x + 26, foot - 72, x + 2 * wide - 30, foot - 26), 14, (40, 46, 56)
            )
            for hub in (x + 30, x + 2 * wide - 30):
                draw.ellipse((hub - 17, foot + 4, hub + 17, foot + 38), fill=(24, 24, 26))
            left += wide
        else:
            base = foot - 60 if things == "posters" else foot - 8
            frame = np.multiply(wall, 0.7) if things == "posters" else np.multiply(wall, 1.25)
            glass = tint if things == "posters" else (58, 70, 88)
            draw.rectangle((x, base - tall, x + wide, base), _rgb(frame))
            draw.rectangle((x + 6, base - tall + 6, x + wide - 6, base - 6), _rgb(glass))
        left += wide + 20 + 60 * rng.random()
    return scene.filter(ImageFilter.GaussianBlur(2.5))


def _rgb(colour: Colour | Floats) -> tuple[int, int, int]:
    red, green, blue = (max(0, min(255, round(float(c)))) for c in colour)
    return red, green, blue


# ---- crops


@dataclass(frozen=True)
class _Walk:
    """One passage of a person before a camera: what its crops have in common."""

    facing: float
    place: float
    exposure: Colour
    bare_head: bool
    empty_handed: bool


def _walk(rng: np.random.Generator) -> _Walk:
    """Choose a direction of walking, a place before the backdrop and the light of the moment."""
    level = 0.7 + 0.6 * rng.random()
    red, blue = 0.9 + 0.2 * rng.random(), 0.9 + 0.2 * rng.random()
    exposure = (level * red, level, level * blue)
    facing, place = 2 * math.pi * rng.random(), rng.random()
    return _Walk(facing, place, exposure, rng.random() < 0.3, rng.random() < 0.3)


def _crop(
    person: _Person | None,
    camera: _Camera,
    walk: _Walk,
    rng: np.random.Generator,
    *,
    misplaced: bool = False,
) -> bytes:
    """Draw one crop as JPEG bytes: of nobody without a person, cut badly when misplaced."""
    wide = round(_CANVAS * (0.36 + 0.16 * rng.random()))
    room = camera.backdrop.width - wide
    left, top = round(walk.place * (room - 40) + 40 * rng.random()), round(100 * rng.random())
    canvas = camera.backdrop.crop((left, top, left + wide, top + _CANVAS))
    draw = ImageDraw.Draw(canvas)
    scale = _CANVAS * (0.8 + 0.3 * rng.random())
    x, y = wide * (0.37 + 0.26 * rng.random()), _CANVAS * (0.91 + 0.15 * rng.random())
    if misplaced:
        scale *= 1.15 + 0.5 * rng.random()
        x += wide * (0.45 + 0.2 * rng.random()) * (1 if rng.random() < 0.5 else -1)
        y += _CANVAS * 0.35 * rng.random()

    def pass_by(across: float, down: float, size: float) -> None:
        stranger = _person(int(rng.integers(2**31)), 0)
        pose = _Pose(2 * math.pi * rng.random(), 2 * math.pi * rng.random(), stranger.stride)
        _paint(draw, stranger, pose, camera, (across * wide, down * _CANVAS, size * scale), rng)

    if rng.random() < 0.2:
        pass_by(rng.random(), 0.8, 0.72)
    if person is not None:
        facing = walk.facing + 0.5 * (rng.random() - 0.5)
        pose = _Pose(facing, 2 * math.pi * rng.random(), person.stride * (0.5 + 0.6 * rng.random()))
        _paint(draw, person, pose, camera, (x, y, scale), rng)
    chance = rng.random()
    if chance < 0.12:  # somebody in front, at one side
        pass_by(0.0 if rng.random() < 0.5 else 1.0, 1.08, 1.05)
    elif chance < 0.33:
        _obstacle(draw, rng, wide)
    return _record(canvas, camera, walk, rng)


def _obstacle(draw: ImageDraw.ImageDraw, rng: np.random.Generator, wide: int) -> None:
    """Put a post, a hedge or a low wall before the person."""
    kind, high = rng.random(), _CANVAS * (0.5 + 0.35 * rng.random())
    if kind < 0.35:
        x, half = wide * (0.15 + 0.7 * rng.random()), wide * (0.04 + 0.05 * rng.random())
        draw.rectangle((x - half, 0, x + half, _CANVAS), fill=_rgb(_cloth(rng, _BOTTOM)))
    elif kind < 0.7:
        for _ in range(40):
            x, y = wide * rng.random(), high + 12 + (_CANVAS - high) * rng.random()
            green = 50 + 60 * rng.random()
            draw.ellipse((x - 18, y - 14, x + 18, y + 14), _rgb((green * 0.7, green, green * 0.45)))
    else:
        tint = _cloth(rng, _BOTTOM)
        draw.rectangle((0, high, wide, _CANVAS), fill=_rgb(tint))
        draw.rectangle((0, high, wide, high + 8), fill=_rgb(np.multiply(tint, 1.3)))


def _record(canvas: Image.Image, camera: _Camera, walk: _Walk, rng: np.random.Generator) -> bytes:
    """Shrink, tint, blur and grain a canvas as the camera would, and encode it."""
    low, high = camera.height
    height = low + int(rng.integers(high - low + 1))
    size = (max(16, round(canvas.width * height / _CANVAS)), height)
    image = canvas.resize(size, Image.Resampling.BOX)
    blur = camera.blur * (0.6 + 0.8 * rng.random()) * height / 128
    image = image.filter(ImageFilter.GaussianBlur(blur))
    table = np.minimum(np.rint(camera.curve * walk.exposure), 255).astype(int).T.ravel().tolist()
    image = image.point(table)
    grey = [(1 - camera.saturation) * part for part in (0.299, 0.587, 0.114)]
    mix = [grey[j] + (camera.saturation if i == j else 0) for i in range(3) for j in range(3)]
    image = image.convert("RGB", (*mix[:3], 0, *mix[3:6], 0, *mix[6:], 0))
    pixels = rng.standard_normal((size[1], size[0], 3), dtype=np.float32)
    pixels *= np.float32(camera.noise)
    pixels += np.asarray(image)
    image = Image.fromarray(np.clip(pixels + 0.5, 0, 255, out=pixels).astype(np.uint8))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=camera.quality)
    return stream.getvalue()


# ---- the archive


@dataclass(frozen=True)
class _Shot:
    name: str  # folder and file name
    kind: str  # person, distractor or junk
    subject: int
    camera: int
    step: int


def draw_archive(
    root: Path,
    *,
    identities: int = 64,
    cameras: int = 4,
    crops_per_camera: int = 5,
    distractors: int = 120,
    junk: int = 40,
    seed: int = 0,
    first_identity: int = 1,
) -> ArchiveCounts:
    """Draw `root/query` and `root/bounding_box_test` as JPEG files with Market-1501 names.

    Every identity is seen by two cameras or more, not always by all; each of those gives one query
    and `crops_per_camera` gallery crops. Distractors (`0000_...`) are strangers and bare backdrop,
    junk (`-1_...`) are badly cut crops of the listed people. The same arguments give the same
    bytes (with one Pillow, on one kind of machine); files that hold them are left as they are.

    Raises InputError for counts out of range and for a root that holds any other file.
    """
    for name, value, least in (
        ("identities", identities, 1),
        ("cameras", cameras, 2),
        ("crops_per_camera", crops_per_camera, 1),
        ("distractors", distractors, 0),
        ("junk", junk, 0),
        ("seed", seed, 0),
        ("first_identity", first_identity, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value}: a drawn archive needs {least} or more")
    people = range(first_identity, first_identity + identities)
    shots = [shot for person in people for shot in _seen(seed, person, cameras, crops_per_camera)]
    queries = sum(shot.name.startswith("query/") for shot in shots)
    for count, kind, label in ((distractors, "distractor", "0000"), (junk, "junk", "-1")):
        for i in range(count):
            camera = 1 + i % cameras
            name = f"bounding_box_test/{label}_c{camera}s1_{100 + 25 * i:06d}_01.jpg"
            subject = people[i % identities] if kind == "junk" else i
            shots.append(_Shot(name, kind, subject, camera, i))
    _refuse_strange_files(root, {shot.name for shot in shots})
    for folder in ("query", "bounding_box_test"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    setups = {number: _camera(seed, number) for number in range(1, cameras + 1)}
    for shot in shots:
        file, crop = root / shot.name, _draw_shot(seed, shot, setups[shot.camera])
        if not file.exists() or file.read_bytes() != crop:
            file.write_bytes(crop)
    gallery = len(shots) - queries
    return ArchiveCounts(identities, cameras, queries, gallery, distractors, junk)


def _refuse_strange_files(root: Path, names: set[str]) -> None:
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file: choose a folder to draw the archive in")
    for folder in ("query", "bounding_box_test"):
        for file in (root / folder).glob("*"):
            if f"{folder}/{file.name}" not in names:
                raise InputError(
                    f"{file} is no part of the archive to be drawn: choose a new folder"
                )


def _seen(seed: int, identity: int, cameras: int, crops: int) -> Iterator[_Shot]:
    """Plan the crops of one identity, camera by camera; the first of each is its query."""
    rng = _stream(seed, "visits", identity)
    met = [number for number in range(1, cameras + 1) if rng.random() < 0.85]
    if len(met) < 2:
        met = [1 + identity % cameras, 1 + (identity + 1) % cameras]
    for camera in sorted(met):
        frame = 25 * int(rng.integers(1, 4000))
        for step in range(crops + 1):
            folder = "bounding_box_test" if step else "query"
            stem = f"{identity:04d}_c{camera}s1_{frame + 12 * step:06d}_{min(step, 1):02d}"
            yield _Shot(f"{folder}/{stem}.jpg", "person", identity, camera, step)


def _draw_shot(seed: int, shot: _Shot, camera: _Camera) -> bytes:
    rng = _stream(seed, shot.kind, shot.subject, shot.camera, shot.step)
    if shot.kind == "distractor":
        stranger = _person(int(rng.integers(2**31)), 0) if rng.random() < 0.6 else None
        return _crop(stranger, camera, _walk(rng), rng)
    walk = _walk(_stream(seed, "walk", shot.subject, shot.camera))
    person = _person(seed, shot.subject)
    if walk.bare_head:
        person = replace(person, hat="none")
    if walk.empty_handed:
        person = replace(person, bag="none")
    return _crop(person, camera, walk, rng, misplaced=shot.kind == "junk")
