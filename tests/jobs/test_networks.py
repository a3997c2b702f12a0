"""Networks with several outputs, and such as prepare their input, from extract to search."""

import pytest

from pipeline.gallery.table import Gallery
from pipeline.model.imported import read_recipe
from tests.jobs.running import SIZE, refused, result, run
from tests.model.making import Pooled, save_onnx, save_traced
from tests.stages.making import save_source


@pytest.fixture
def source(tmp_path):
    return save_source(tmp_path / "source", 6)


def test_a_gallery_remembers_the_output_that_is_its_feature(capsys, source, tmp_path):
    # Another window than one pixel: the features of no two crops are alike.
    network = save_onnx(tmp_path / "n.onnx", outputs=("feature", "raised"), window=3)
    made = ("extract", source, "--gallery", tmp_path / "g", "--model", network, *SIZE)
    assert "several outputs" in refused(capsys, *made)
    assert not (tmp_path / "g").exists()
    told = result(capsys, *made, "--output", "raised")
    assert read_recipe(Gallery.open(str(tmp_path / "g")).recipe_json).output == "raised"
    again = result(capsys, *made)
    assert (again["unchanged"], again["fingerprint"]) == (6, told["fingerprint"])
    assert "output: raised here, feature there" in refused(capsys, *made, "--output", "feature")

    crop = sorted(each for each in source.rglob("*") if each.is_file())[0]
    searched = ("--gallery", tmp_path / "g", "--model", network, "-k", 1)
    (found,) = result(capsys, "search", crop, *searched)["results"]
    assert found["hits"][0]["path"] == crop.name
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)

    out = ("--out", tmp_path / "other", "--output", "feature", "--actors", 0)
    sized = ("--height", 32, "--width", 16)
    other = result(capsys, "re-extract", *searched[:4], *out, *sized)
    assert other["rows"] == 6
    assert other["fingerprint"] != told["fingerprint"]


def test_a_network_that_prepares_its_input_is_told_and_not_prepared_twice(capsys, source, tmp_path):
    class Prepared(Pooled):
        def forward(self, images):
            return super().forward((images - 123.7) / 58.4)

    network = save_traced(tmp_path / "n.pt", Prepared().eval())
    made = ("extract", source, "--model", network, *SIZE)
    status, _, err = run(capsys, *made, "--gallery", tmp_path / "g")
    assert status == 0
    assert "n.pt: the network begins with (x - 123.7) / 58.4: it prepares its input" in err
    recipe = read_recipe(Gallery.open(str(tmp_path / "g")).recipe_json)
    assert (recipe.pixel_range, recipe.mean, recipe.std) == (255, (0, 0, 0), (1, 1, 1))
    status, _, err = run(capsys, *made, "--gallery", tmp_path / "twice", "--pixel-range", 1)
    assert status == 0
    assert "but the recipe has other --pixel-range: its input will be prepared twice" in err


def test_a_network_that_mixes_its_batch_leaves_no_gallery(capsys, source, tmp_path):
    network = save_traced(tmp_path / "n.pt", Pooled().train())
    message = refused(
        capsys, "extract", source, "--gallery", tmp_path / "g", "--model", network, *SIZE
    )
    assert "the feature of a crop depends on the rest of its batch" in message
    assert not (tmp_path / "g").exists()
