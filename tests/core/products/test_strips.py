import numpy as np

from pipeline.core.products import strips


def test_a_tile_without_strips_has_all_its_values():
    values = np.full((3, 2), 7, np.int32)
    assert strips.next_strip(strips.NO_STRIPS, 0, 3, values) == (0, 3)
    assert (values == 7).all()
