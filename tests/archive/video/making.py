"""Small videos, encoded here: a bright square moves over a ground that says which frame it is."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CODECS = {
    "h264.mp4": ("libx264", "yuv420p", {"g": "40", "bf": "2"}),
    "hevc.mkv": ("libx265", "yuv420p10le", {"x265-params": "keyint=40:log-level=none"}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"g": "40", "deadline": "realtime", "cpu-used": "8"}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {"g": "40", "bf": "2"}),
    "bare.h264": ("libx264", "yuv420p", {"g": "40", "bf": "2"}),
    "h264.avi": ("libx264", "yuv420p", {"g": "40", "bf": "2"}),
}
WIDTH, HEIGHT = 128, 96


def picture(frame: int) -> np.ndarray:
    pixels = np.full((HEIGHT, WIDTH, 3), frame * 2 % 200, np.uint8)
    left, top = frame * 3 % (WIDTH - 24), frame * 2 % (HEIGHT - 24)
    pixels[top : top + 24, left : left + 24] = (240, 40, frame * 5 % 256)
    return pixels


def save_video(
    path: Path,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    *,
    frames: int = 100,
    steps: list[int] | None = None,
    rotation: int = 0,
) -> Path:
    """Frames 40 ms apart, or so many `steps` of 1 ms."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bare = {".h264": "h264"}.get(path.suffix)
    with av.open(str(path), "w", format=bare) as container:
        stream = container.add_stream(
            codec, rate=25, options={"g": "40", "bf": "2"} if options is None else options
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        if rotation:
            stream.set_display_rotation(rotation)
        times = np.cumsum([0, *(steps or [40] * (frames - 1))])
        if steps:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times.tolist()):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = (
                (time, Fraction(1, 1000)) if steps else (number, Fraction(1, 25))
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def save_codec(folder: Path, name: str, frames: int = 100) -> Path:
    codec, pixel_format, options = CODECS[name]
    return save_video(folder / name, codec, pixel_format, options, frames=frames)


def decoded(path: Path) -> list[np.ndarray]:
    """Every frame by a plain loop, upright."""
    with av.open(str(path)) as container:
        return [
            np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
            for frame in container.decode(video=0)
        ]


def mot(boxes: list[tuple[int, int, float, float, float, float]]) -> str:
    """Boxes (frame from 0, track, x, y, width, height from 0) as MOTChallenge writes them."""
    return "".join(
        f"{frame + 1},{track},{x + 1},{y + 1},{width},{height},1,-1,-1,-1\n"
        for frame, track, x, y, width, height in boxes
    )
