"""The map by request: laid out once, then known again by its tag."""

import numpy as np

from pipeline.gallery.table import Gallery
from pipeline.runs.mapping import gallery_map
from tests.service.asking import client, computed, message
from tests.service.test_packed_points import read

POINTS = "/v1/galleries/yard/points"


def test_the_points_are_those_of_the_map(shelf, place):
    asked = client(shelf)
    answer = computed(asked, POINTS)
    assert answer.headers["content-type"] == "application/octet-stream"
    header, columns = read(answer.content)
    found = gallery_map(Gallery.open(str(place / "yard"))).points
    assert (header["version"], header["rows"], header["cameras"]) == (1, 12, ["1", "2", "3"])
    for axis, name in enumerate("xy"):
        low, high = header[name]
        back = low + columns[name] / 65_535 * (high - low)
        assert np.abs(back - found[:, axis]).max() <= (high - low) / 65_535 + 1e-6
    tag = {"If-None-Match": answer.headers["etag"]}
    assert asked.get(POINTS, headers=tag).status_code == 304
    asked.app.state.service.remembered.forget()
    assert asked.get(POINTS).content == answer.content  # from the stored map
    message(asked.get("/v1/galleries/_all/points"), 404)
