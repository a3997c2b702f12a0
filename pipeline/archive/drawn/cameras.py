"""The cameras of a drawn archive: backdrop, light, color cast, blur and noise."""

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipeline.archive.drawn.palette import TOPS, Color, Floats, cloth, jitter, rgb, stream

CANVAS = 300
"""Height in pixels at which a crop is drawn before it is shrunk."""

# Wall and ground; gain of red, green and blue; then gamma, saturation, blur (pixels in a crop 128
# high), noise (gray levels), JPEG quality, smallest and largest crop (pixels).
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
# The same at night: colors that no camera shows by day, little of them, blur and noise.
_NIGHT = {
    "trees": ((0.55, 1, 0.75), (1.5, 0.35, 0.9, 14, 70, 96, 160)),
    "windows": ((1.3, 0.85, 0.45), (1.3, 0.5, 1, 12, 70, 80, 150)),
    "posters": ((0.6, 0.75, 1.25), (1.6, 0.4, 1.1, 14, 68, 80, 140)),
    "cars": ((0.9, 0.9, 0.9), (1.4, 0.1, 1.1, 16, 66, 72, 136)),
}


@dataclass(frozen=True)
class DrawnCamera:
    """The constant properties of a camera: backdrop, light and the way it records."""

    backdrop: Image.Image
    sun: Color
    ambient: float
    tilt: float
    curve: Floats  # [256, 3] the recorded value of each level of red, green and blue
    saturation: float
    blur: float
    noise: float
    quality: int
    height: tuple[int, int]


def set_up(seed: int, number: int, *, night: bool = False) -> DrawnCamera:
    """Set up the camera of this number, by day or at night; styles repeat after the last one."""
    rng = stream(seed, "camera", number)
    things = list(_STYLES)[(number - 1) % len(_STYLES)]
    wall, ground, gains, rest = _STYLES[things]
    if night:
        gains, rest = _NIGHT[things]

    def vary(value: float, part: float) -> float:
        return value * (1 + part * (2 * rng.random() - 1))

    gamma, gain = vary(rest[0], 0.1), [vary(part, 0.1) for part in gains]
    slant = 2.4 * rng.random() - 1.2
    return DrawnCamera(
        backdrop=_backdrop(rng, jitter(rng, wall, 24), jitter(rng, ground, 20), things),
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


def _backdrop(rng: np.random.Generator, wall: Color, ground: Color, things: str) -> Image.Image:
    """Draw the place that a camera shows, wide enough that every crop shows another part of it."""
    width, height, foot = 1400, 460, 215
    scene = Image.new("RGB", (width, height), rgb(wall))
    draw = ImageDraw.Draw(scene)
    for y in range(foot, height):
        draw.line((0, y, width, y), fill=rgb(np.multiply(ground, 0.8 + 0.3 * (y - foot) / 245)))
    for end in range(-1500, 2900, 130):  # joints of the paving run to a vanishing point
        start = 700 + (end - 700) * 0.45
        draw.line((start, foot, end, height), rgb(np.multiply(ground, 0.82)), 3)
    for y in (230, 255, 295, 355, 440):
        draw.line((0, y, width, y), rgb(np.multiply(ground, 0.84)), 3)
    left = 0.0
    while left < width:
        x = left
        wide, tall = 50 + 70 * rng.random(), 90 + 60 * rng.random()
        tint = cloth(rng, TOPS)
        if things == "trees":
            draw.rectangle((x + 24, foot - 80, x + 36, foot + 12), fill=(88, 70, 54))
            for _ in range(14):
                cx, cy = x + 30 + 80 * (rng.random() - 0.5), foot - 90 - 90 * rng.random()
                green = 60 + 70 * rng.random()
                draw.ellipse((cx - 22, cy - 18, cx + 22, cy + 18), rgb((green * 0.7, green, 48)))
        elif things == "cars":
            draw.rounded_rectangle((x, foot - 40, x + 2 * wide, foot + 22), 16, rgb(tint))
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
            draw.rectangle((x, base - tall, x + wide, base), rgb(frame))
            draw.rectangle((x + 6, base - tall + 6, x + wide - 6, base - 6), rgb(glass))
        left += wide + 20 + 60 * rng.random()
    return scene.filter(ImageFilter.GaussianBlur(2.5))


def record(
    canvas: Image.Image, camera: DrawnCamera, exposure: Color, rng: np.random.Generator
) -> bytes:
    """Shrink, tint, blur and grain a canvas as the camera would, and encode it."""
    low, high = camera.height
    height = low + int(rng.integers(high - low + 1))
    size = (max(16, round(canvas.width * height / CANVAS)), height)
    image = canvas.resize(size, Image.Resampling.BOX)
    blur = camera.blur * (0.6 + 0.8 * rng.random()) * height / 128
    image = image.filter(ImageFilter.GaussianBlur(blur))
    table = np.minimum(np.rint(camera.curve * exposure), 255).astype(int).T.ravel().tolist()
    image = image.point(table)
    gray = [(1 - camera.saturation) * part for part in (0.299, 0.587, 0.114)]
    mix = [gray[j] + (camera.saturation if i == j else 0) for i in range(3) for j in range(3)]
    image = image.convert("RGB", (*mix[:3], 0, *mix[3:6], 0, *mix[6:], 0))
    pixels = rng.standard_normal((size[1], size[0], 3), dtype=np.float32)
    pixels *= np.float32(camera.noise)
    pixels += np.asarray(image)
    image = Image.fromarray(np.clip(pixels + 0.5, 0, 255, out=pixels).astype(np.uint8))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=camera.quality)
    return stream.getvalue()
