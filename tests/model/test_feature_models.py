import numpy as np
import pytest

from pipeline.model.feature_models import unit_features


class Corner:
    """Takes the first pixel of a crop for its feature, and says which batches it saw."""

    dimension, batch_size = 3, 4

    def __init__(self):
        self.seen = []

    def over(self, batches):
        for batch in batches:
            self.seen.append(len(batch))
            yield np.array([crop[0, 0] for crop in batch], np.float32)


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_every_crop_has_a_unit_feature_or_a_reason(count):
    pixels = np.random.default_rng(3).integers(0, 4, (count, 1, 1, 3), dtype=np.uint8)
    pixels[1:2] = 0  # of no direction
    model, found = Corner(), {}
    for keys, rows, wrong in unit_features(zip("abcdefghi", pixels, strict=False), model):
        assert rows.dtype == np.float32
        assert len(keys) == len(rows)
        for row, key in enumerate(keys):
            found[key] = wrong.get(row, rows[row])
            assert row not in wrong or not rows[row].any()
    assert list(found) == list("abcdefghi"[:count])
    for key, crop in zip(found, pixels, strict=True):
        if crop.any():
            one = crop[0, 0] / np.linalg.norm(crop[0, 0].astype(float))
            assert found[key] == pytest.approx(one, abs=1e-6)
        else:
            assert found[key] == "the network gave a vector of length 0"
    assert model.seen == [4] * (count // 4) + [count % 4] * (count % 4 > 0)


def test_crops_are_taken_a_batch_at_a_time():
    taken = []

    def crops():
        for place in range(10):
            taken.append(place)
            yield place, np.ones((1, 1, 3), np.uint8)

    found = unit_features(crops(), Corner())
    assert next(found)[0] == [0, 1, 2, 3]
    assert taken == [0, 1, 2, 3]
