"""The figure of a person: parts of the body as stacks of rings, and how to paint them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import ImageDraw

from pipeline.archive.drawn.cameras import DrawnCamera
from pipeline.archive.drawn.palette import Color, Floats
from pipeline.archive.drawn.people import DRAWN_COLUMNS, Person

_EDGES = [2 * math.pi * (column - 0.5) / DRAWN_COLUMNS for column in range(DRAWN_COLUMNS + 1)]
_RING = np.array([[math.sin(a), math.cos(a)] for a in _EDGES])  # across, ahead


@dataclass(frozen=True)
class Pose:
    """The pose of a person: facing 0 looks into the camera; phase is that of the step (radians)."""

    facing: float
    phase: float
    stride: float


@dataclass(frozen=True)
class _Part:
    points: Floats  # [R, DRAWN_COLUMNS + 1, 3] across, up, ahead
    colors: Floats  # [R - 1, DRAWN_COLUMNS, 3]


def paint(
    draw: ImageDraw.ImageDraw,
    person: Person,
    pose: Pose,
    camera: DrawnCamera,
    at: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    """Paint a person with the feet at pixel (x, y), at `scale` pixels per unit of height."""
    x, y, scale = at
    draw.ellipse(
        (x - 0.2 * scale, y - 0.03 * scale, x + 0.2 * scale, y + 0.04 * scale), fill=(74, 72, 72)
    )
    parts = _figure(person, pose)
    colors = np.concatenate([part.colors for part in parts])
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
    shade = np.minimum(colors[seen] * light[:, None], 255).astype(np.uint8)
    order = np.argsort(corners[..., 2].sum(axis=1), kind="stable")  # far to near
    size = scale * person.stature
    outlines = (corners[order, :, :2] * [size, -size] + [x, y]).reshape(-1, 8).tolist()
    for outline, fill in zip(outlines, map(tuple, shade[order].tolist()), strict=True):
        draw.polygon(outline, fill=fill)


def _rotation(angle: float, first: int, second: int) -> Floats:
    """The matrix that turns row vectors by an angle (radians) in the plane of two of the axes."""
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[second, first], matrix[first, second] = math.sin(angle), -math.sin(angle)
    return matrix


def _figure(person: Person, pose: Pose) -> list[_Part]:
    """Return the parts of a person of height 1 who stands at the origin and looks ahead."""
    parts = [_torso(person), *_head(person)]
    for side in (-1.0, 1.0):
        swing = math.sin(pose.phase) * side * pose.stride
        parts += [*_leg(person, pose, side, swing), _arm(person, side, -swing)]
    long_skirt = person.garment == "dress"
    if long_skirt or person.bottom == "skirt":
        color, end = (person.upper, 0.30) if long_skirt else (person.lower, 0.33)
        flare = 0.10 + 0.12 * pose.stride * abs(math.sin(pose.phase))
        joints = np.array([[0, 0.56, 0], [0, 0.46, 0], [0, end, 0]])
        radii = np.array([[0.1, 0.07], [0.118, 0.085], [0.125, flare]]) * person.build
        parts.append(_part(joints, radii, np.array(color), 5))
    elif person.garment == "coat":
        joints = np.array([[0, 0.52, 0], [0, 0.36, -0.01]])
        radii = np.array([[0.122, 0.09], [0.132, 0.105 + 0.05 * pose.stride]]) * person.build
        parts.append(_part(joints, radii, np.array(person.upper), 4))
    return [*parts, *_bag(person)]


def _torso(person: Person) -> _Part:
    up = np.array([0.845, 0.825, 0.80, 0.755, 0.70, 0.63, 0.56, 0.515, 0.465])
    across = np.array([0.03, 0.085, 0.122, 0.122, 0.116, 0.104, 0.104, 0.112, 0.108])
    ahead = np.array([0.03, 0.05, 0.066, 0.078, 0.082, 0.078, 0.076, 0.08, 0.076])
    if person.garment in ("jacket", "coat", "hoodie"):
        across, ahead = across + 0.008, ahead + 0.01
    joints = np.stack([0 * up, up, 0 * up], axis=1)
    radii = np.stack([across, ahead], axis=1) * person.build
    return _part(joints, radii, _torso_cloth(person), 15)


def _torso_cloth(person: Person) -> Floats:
    cloth = np.broadcast_to(person.upper, (14, DRAWN_COLUMNS, 3)).copy()
    row, column = np.mgrid[:14, :DRAWN_COLUMNS]
    second = {
        "plain": np.zeros((14, DRAWN_COLUMNS), bool),
        "stripes": row // 2 % 2 == 1,
        "columns": column % 2 == 1,
        "checks": (row // 2 + column // 2) % 2 == 1,
        "yoke": row < 5,
        "print": person.print_cells,
    }[person.pattern]
    cloth[second] = person.accent
    front = np.isin(column, (DRAWN_COLUMNS - 1, 0, 1))
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
        cloth[np.isin(column, (2, DRAWN_COLUMNS - 2)) & (row < 8)] = person.bag_color
    elif person.bag == "satchel":  # the strap runs from one shoulder to the other hip
        cloth[abs((column + 4) % DRAWN_COLUMNS - 1 - row * 0.6) < 0.8] = person.bag_color
    return cloth


def _head(person: Person) -> Iterator[_Part]:
    neck = np.array([[0, 0.87, 0.01], [0, 0.82, 0]])
    yield _part(neck, np.array([[0.032, 0.036], [0.038, 0.04]]), np.array(person.skin), 2)
    turn = np.linspace(0.12, math.pi - 0.35, 9)
    joints = np.stack([0 * turn, 0.922 + 0.078 * np.cos(turn), 0 * turn + 0.012], axis=1)
    radii = np.sin(turn)[:, None] * np.array([0.05, 0.062])
    face = np.broadcast_to(person.skin, (8, DRAWN_COLUMNS, 3)).copy()
    row, column = np.mgrid[:8, :DRAWN_COLUMNS]
    behind = np.minimum(column, DRAWN_COLUMNS - column)
    if person.hair_style != "bald":
        face[(row < 2) | ((behind > 3) & (row < 5)) | ((behind > 5) & (row < 7))] = person.hair
    face[(behind == 1) & (row == 4)] = np.multiply(person.skin, 0.45)  # eyes
    face[(behind == 0) & (row == 6)] = np.multiply(person.skin, 0.7)  # mouth
    if person.hat != "none":
        face[row < 3] = person.hat_color
        radii[:4] *= 1.1
    yield _part(joints, radii, face, 9)
    if person.hat == "cap":
        brim = np.array([[0, 0.955, 0.055], [0, 0.945, 0.06]])
        yield _part(brim, np.array([[0.03, 0.03], [0.045, 0.055]]), np.array(person.hat_color), 2)
    if person.hair_style in ("long", "tail"):
        wide = 0.054 if person.hair_style == "long" else 0.02
        joints = np.array([[0, 0.965, -0.025], [0, 0.89, -0.045], [0, 0.765, -0.075]])
        radii = np.array([[wide * 0.6, 0.03], [wide, 0.035], [wide * 0.9, 0.02]])
        yield _part(joints, radii, np.array(person.hair), 4)


def _leg(person: Person, pose: Pose, side: float, swing: float) -> Iterator[_Part]:
    bend = 1.3 * pose.stride * max(0.0, math.cos(pose.phase) * side) ** 2 + 0.06
    x = 0.052 * side * person.build
    knee = (x, 0.5 - 0.235 * math.cos(swing), 0.235 * math.sin(swing))
    ankle = (x, knee[1] - 0.23 * math.cos(swing - bend), knee[2] + 0.23 * math.sin(swing - bend))
    width = np.array([0.062, 0.046, 0.034 if person.bottom != "trousers" else 0.042]) * person.build
    width[1:] *= 0.85 if person.bottom in ("skirt", "shorts") else 1
    bare = {"skirt": 1, "shorts": 3}.get(person.bottom, 6)
    colors = _rows((bare, person.lower), (6 - bare, person.skin))
    yield _part(np.array([(x, 0.5, 0), knee, ankle]), np.stack([width, width * 1.1], 1), colors, 7)
    y, z = ankle[1], ankle[2]
    foot = np.array([[x, y + 0.02, z], [x, y - 0.01, z + 0.02], [x, y - 0.035, z + 0.025]])
    yield _part(
        foot, np.array([[0.03, 0.035], [0.034, 0.055], [0.034, 0.062]]), np.array(person.shoes), 4
    )


def _arm(person: Person, side: float, swing: float) -> _Part:
    x = 0.128 * side * person.build
    elbow = (x * 1.12, 0.80 - 0.165 * math.cos(swing), 0.165 * math.sin(swing))
    bent = swing + 0.35
    hand = (x * 1.08, elbow[1] - 0.185 * math.cos(bent), elbow[2] + 0.185 * math.sin(bent))
    width = np.array([0.012, 0.038, 0.034, 0.024]) * person.build
    sleeve = 3 if person.garment in ("shirt", "dress") else 5
    colors = _rows((sleeve, person.upper), (6 - sleeve, person.skin))
    if person.pattern == "stripes":
        colors[1:sleeve:2] = person.accent
    if person.pattern == "yoke":
        colors[:2] = person.accent
    joints = np.array([(x * 0.8, 0.828, 0), (x, 0.795, 0), elbow, hand])
    return _part(joints, np.stack([width, width], 1), colors, 7)


def _bag(person: Person) -> Iterator[_Part]:
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
    yield _part(joints, radii, np.array(person.bag_color), 4)


def _part(joints: Floats, radii: Floats, colors: Floats, rings: int) -> _Part:
    """Interpolate joints `[J, 3]` and radii `[J, 2]` to rings, all of them horizontal."""
    between = _between(len(joints), rings)
    width = between @ radii
    points = np.repeat((between @ joints)[:, None], DRAWN_COLUMNS + 1, axis=1)
    points[..., ::2] += width[:, None] * _RING
    return _Part(points, np.broadcast_to(colors, (rings - 1, DRAWN_COLUMNS, 3)))


@cache
def _between(joints: int, rings: int) -> Floats:
    """Weights `[rings, joints]` of rings spread evenly from the first joint to the last."""
    at = np.linspace(0, joints - 1, rings)
    return np.maximum(0, 1 - abs(at[:, None] - np.arange(joints)))


def _rows(*runs: tuple[int, Color]) -> Floats:
    """Colors `[R, 1, 3]` from runs of rows, top to bottom."""
    return np.concatenate([np.broadcast_to(color, (count, 1, 3)) for count, color in runs])
