"""Features of a real network: every crop of a folder in thirty forms, as an archive has them."""

from pathlib import Path

import numpy as np

FORMS = 30
_SHARED = Path(__file__).resolve().parents[2] / "shared"
CROPS = _SHARED / "data" / "pedestrians"
NETWORK = _SHARED / "models" / "osnet_x0_25_msmt17.onnx"
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def real_features(folder):
    """Unit features `[N, 512]` of all forms of all crops: those that `folder` holds, or made."""
    held = folder / "osnet-features.npy"
    if not held.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(held, _made())
    return np.load(held)


def _made():
    import onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession(str(NETWORK), providers=["CPUExecutionProvider"])
    name, rng, features = session.get_inputs()[0].name, np.random.default_rng(0), []
    for path in sorted(CROPS.glob("*/*.jpg")):
        crop = Image.open(path).convert("RGB")
        forms = np.stack([_form(crop, rng if number else None) for number in range(FORMS)])
        features.append(session.run(None, {name: forms})[0])
    rows = np.concatenate(features).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _form(crop, rng):
    """One form of a crop as the network takes it, at random: cut, flipped, blurred, lit."""
    from PIL import Image, ImageEnhance, ImageFilter

    if rng is not None:
        width, height = crop.size
        left, right = rng.uniform(0, 0.12, 2) * width
        top, bottom = rng.uniform(0, 0.12, 2) * height
        crop = crop.crop((int(left), int(top), int(width - right), int(height - bottom)))
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop = crop.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
        crop = ImageEnhance.Brightness(crop).enhance(rng.uniform(0.7, 1.3))
        crop = ImageEnhance.Contrast(crop).enhance(rng.uniform(0.8, 1.2))
    pixels = np.asarray(crop.resize((128, 256), Image.Resampling.BICUBIC), np.float32) / 255
    normal = (pixels - np.float32(_MEAN)) / np.float32(_DEVIATION)
    return normal.transpose(2, 0, 1)
