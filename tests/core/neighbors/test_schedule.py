import threading

import pytest

from pipeline.core.neighbors.schedule import Tiles, rectangle, triangle


def taken_in_turn(tiles, together, apart=0):
    """All tiles, `together` of them out at a time where that many are free."""
    seen = []
    while len(tiles):
        out = [tiles.take()]
        while len(out) < together and any(
            tiles._out.isdisjoint(tiles._blocks(tile)) for tile in tiles._left
        ):
            out.append(tiles.take())
        used = [block for x, y in out for block in {x, y + apart}]
        assert len(used) == len(set(used))
        for tile in out:
            tiles.give_back(tile)
        seen += out
    return seen


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 9])
def test_every_tile_comes_once_and_none_out_shares_a_block(count):
    seen = taken_in_turn(Tiles(triangle(count)), count // 2)
    assert sorted(seen) == [(x, y) for x in range(count) for y in range(x, count)]


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (1, 4), (4, 2), (3, 3), (5, 6)])
def test_every_tile_of_a_rectangle_comes_once_and_none_out_shares_a_block(shape):
    line = rectangle(*shape)
    seen = taken_in_turn(Tiles(line, apart=shape[0]), min(shape), shape[0])
    assert seen == line  # none has to wait
    assert sorted(seen) == [(x, y) for x in range(shape[0]) for y in range(shape[1])]


def test_a_tile_waits_for_its_blocks():
    tiles, taken = Tiles(triangle(2)), []
    first, second = tiles.take(), tiles.take()
    waiting = threading.Thread(target=lambda: taken.append(tiles.take()))
    waiting.start()
    waiting.join(0.05)
    tiles.give_back(first)
    waiting.join(0.05)
    assert not taken
    tiles.give_back(second)
    waiting.join()
    assert taken == [(0, 1)]
