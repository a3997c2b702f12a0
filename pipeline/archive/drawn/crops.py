"""One drawn crop: a person in front of a camera, and people or things in between."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

from pipeline.archive.drawn.body import Pose, paint
from pipeline.archive.drawn.cameras import CANVAS, DrawnCamera, record
from pipeline.archive.drawn.palette import BOTTOMS, Color, cloth, rgb
from pipeline.archive.drawn.people import Person, dress


@dataclass(frozen=True)
class Walk:
    """One passage of a person in front of a camera: the properties that its crops share."""

    facing: float
    place: float
    exposure: Color
    bare_head: bool
    empty_handed: bool


def begin_walk(rng: np.random.Generator) -> Walk:
    """Choose a walking direction, a place in front of the backdrop and the light of the moment."""
    level = 0.7 + 0.6 * rng.random()
    red, blue = 0.9 + 0.2 * rng.random(), 0.9 + 0.2 * rng.random()
    exposure = (level * red, level, level * blue)
    facing, place = 2 * math.pi * rng.random(), rng.random()
    return Walk(facing, place, exposure, rng.random() < 0.3, rng.random() < 0.3)


def draw_crop(
    person: Person | None,
    camera: DrawnCamera,
    walk: Walk,
    rng: np.random.Generator,
    *,
    misplaced: bool = False,
) -> bytes:
    """Draw one crop as JPEG bytes; without a person it shows nobody, and `misplaced` cuts it
    badly.
    """
    wide = round(CANVAS * (0.36 + 0.16 * rng.random()))
    room = camera.backdrop.width - wide
    left, top = round(walk.place * (room - 40) + 40 * rng.random()), round(100 * rng.random())
    canvas = camera.backdrop.crop((left, top, left + wide, top + CANVAS))
    draw = ImageDraw.Draw(canvas)
    scale = CANVAS * (0.8 + 0.3 * rng.random())
    x, y = wide * (0.37 + 0.26 * rng.random()), CANVAS * (0.91 + 0.15 * rng.random())
    if misplaced:
        scale *= 1.15 + 0.5 * rng.random()
        x += wide * (0.45 + 0.2 * rng.random()) * (1 if rng.random() < 0.5 else -1)
        y += CANVAS * 0.35 * rng.random()

    def pass_by(across: float, down: float, size: float) -> None:
        stranger = dress(int(rng.integers(2**31)), 0)
        pose = Pose(2 * math.pi * rng.random(), 2 * math.pi * rng.random(), stranger.stride)
        paint(draw, stranger, pose, camera, (across * wide, down * CANVAS, size * scale), rng)

    if rng.random() < 0.2:
        pass_by(rng.random(), 0.8, 0.72)
    if person is not None:
        facing = walk.facing + 0.5 * (rng.random() - 0.5)
        pose = Pose(facing, 2 * math.pi * rng.random(), person.stride * (0.5 + 0.6 * rng.random()))
        paint(draw, person, pose, camera, (x, y, scale), rng)
    chance = rng.random()
    if chance < 0.12:  # somebody in front, at one side
        pass_by(0.0 if rng.random() < 0.5 else 1.0, 1.08, 1.05)
    elif chance < 0.33:
        _obstacle(draw, rng, wide)
    return record(canvas, camera, walk.exposure, rng)


def _obstacle(draw: ImageDraw.ImageDraw, rng: np.random.Generator, wide: int) -> None:
    """Put a post, a hedge or a low wall in front of the person."""
    kind, high = rng.random(), CANVAS * (0.5 + 0.35 * rng.random())
    if kind < 0.35:
        x, half = wide * (0.15 + 0.7 * rng.random()), wide * (0.04 + 0.05 * rng.random())
        draw.rectangle((x - half, 0, x + half, CANVAS), fill=rgb(cloth(rng, BOTTOMS)))
    elif kind < 0.7:
        for _ in range(40):
            x, y = wide * rng.random(), high + 12 + (CANVAS - high) * rng.random()
            green = 50 + 60 * rng.random()
            draw.ellipse((x - 18, y - 14, x + 18, y + 14), rgb((green * 0.7, green, green * 0.45)))
    else:
        tint = cloth(rng, BOTTOMS)
        draw.rectangle((0, high, wide, CANVAS), fill=rgb(tint))
        draw.rectangle((0, high, wide, high + 8), fill=rgb(np.multiply(tint, 1.3)))
