"""Training with labels: who is trained on, resuming to the same bits, and what is refused."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from pipeline.archive.drawn.drawing import draw_archive
from pipeline.core.tracklets import is_held_out
from pipeline.errors import InputError
from pipeline.gallery.log.lock import hold
from pipeline.gallery.table import Gallery
from pipeline.model.trainable import UntrainedNetwork
from pipeline.runs import training
from pipeline.runs.adapted import RoundSettings
from pipeline.runs.settings import ActorSettings
from pipeline.runs.trained import SupervisedSettings
from pipeline.runs.training import train
from pipeline.training.augmentation import AugmentationSettings

SMALL = SupervisedSettings(epochs=2, people=4, crops=2, held_out=0.3, learning_rate=1e-3)
HERE = ActorSettings(actors=0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn") / "archive"
    draw_archive(root, identities=8, cameras=2, crops_per_camera=1, distractors=2, junk=3)
    return root


@pytest.fixture(scope="module")
def once(archive, tmp_path_factory):
    """An uninterrupted training from scratch."""
    return learn(archive, tmp_path_factory.mktemp("once"))


def learn(archive, out, settings=SMALL, network=None, **others):
    network = network or UntrainedNetwork("demo")
    return train(
        str(archive), network, out, layout="market1501", settings=settings, actors=HERE, **others
    )


def naive_figures(gallery, held):
    """mAP and rank 1 of each held-out row against the others, by loops."""
    rows = gallery.rows(["identity", "camera"]).to_pylist()
    features = gallery.features().read(0, gallery.count)
    kept = [place for place, row in enumerate(rows) if row["identity"] in held]
    precisions, firsts = [], []
    for query in kept:
        own = rows[query]
        others = [
            place
            for place in kept
            if (rows[place]["identity"], rows[place]["camera"]) != (own["identity"], own["camera"])
        ]
        others.sort(key=lambda place: -float(features[query] @ features[place]))
        hits = [rows[place]["identity"] == own["identity"] for place in others]
        if any(hits):
            places = np.flatnonzero(hits)
            precisions.append(np.mean((np.arange(len(places)) + 1) / (places + 1)))
            firsts.append(hits[0])
    return np.mean(precisions), np.mean(firsts), len(precisions)


def test_people_are_trained_on_or_held_out(archive, once):
    held = {person for person in range(1, 9) if is_held_out(str(person), 0.3)}
    names = [path.name for path in archive.glob("*/*.jpg")]
    trained = [name for name in names if name[0] == "0" and 0 < int(name[:4]) not in held]
    assert 0 < len(held) < 5
    assert (once.people, once.crops) == (8 - len(held), len(trained))
    assert (once.left_out.junk, once.left_out.distractors) == (3, 2)
    assert (once.left_out.unknown, once.left_out.rejected) == (0, 0)
    assert [set(each) for each in once.losses] == [{"identities", "triplets"}] * 2
    mean_ap, rank_1, queries = naive_figures(Gallery.open(str(once.out / "after")), held)
    assert once.before is None
    assert once.after.mean_ap == pytest.approx(mean_ap)
    assert once.after.rank_1 == pytest.approx(rank_1)
    assert (once.after.queries, once.after.people) == (queries, len(held))
    assert not list(once.out.glob("crops-*"))


def test_a_killed_training_goes_on_to_the_same_bits(archive, once, tmp_path):
    def killing(name, total):
        done = []

        def step(count):
            done.append(count)
            if name == "training" and sum(done) > total // 2:
                raise KeyboardInterrupt

        return step

    with pytest.raises(KeyboardInterrupt):
        learn(archive, tmp_path, progress=killing)
    assert (tmp_path / "training.pth").exists()
    again = learn(archive, tmp_path)
    assert again.network.read_bytes() == once.network.read_bytes()
    assert again.losses == once.losses and again.after == once.after


def test_a_finished_training_is_not_done_again(archive, once, monkeypatch):
    monkeypatch.setattr(training, "_trained", None)
    again = learn(archive, once.out)
    assert (again.losses, again.after) == (once.losses, once.after)


def test_a_trained_network_is_measured_before(archive, once, tmp_path):
    given = UntrainedNetwork("demo").with_weights(once.network)
    settings = SupervisedSettings(
        epochs=1, people=4, crops=4, head="arcface", triplets="none", held_out=0.3
    )
    found = learn(archive, tmp_path, settings, given)
    assert found.before == once.after
    assert found.after != found.before
    assert not (tmp_path / "initial.safetensors").exists()
    assert list(found.losses[0]) == ["identities"]


def test_without_held_out_people_nothing_is_measured(archive, tmp_path):
    found = learn(
        archive, tmp_path, SupervisedSettings(epochs=1, people=8, crops=2, held_out=0, part="head")
    )
    assert (found.before, found.after, found.people) == (None, None, 8)


def test_another_training_does_not_get_the_folder(archive, once):
    other = SupervisedSettings(epochs=3, people=4, crops=2, held_out=0.3, learning_rate=1e-3)
    with pytest.raises(InputError, match=r"is of another training .its settings differ"):
        learn(archive, once.out, other)
    with pytest.raises(InputError, match="another training, which began with other weights"):
        learn(archive, once.out, SupervisedSettings(epochs=2, people=4, held_out=0.3, seed=1))


def test_two_trainings_cannot_share_a_folder(archive, tmp_path):
    with (
        hold(str(tmp_path), "train on others"),
        pytest.raises(InputError, match="'train on others'"),
    ):
        learn(archive, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["_lock"]


def test_other_identities_are_another_training(archive, tmp_path):
    def manifest(first):
        lines = [f"{path},{n % 8 + first},c{n % 2}" for n, path in
                 enumerate(sorted(archive.rglob("0*.jpg")))]  # fmt: skip
        (tmp_path / "crops.csv").write_text("\n".join(["path,identity,camera", *lines]))

    def killed(name, total):
        raise KeyboardInterrupt

    def run():
        train(str(tmp_path / "crops.csv"), UntrainedNetwork("demo"), tmp_path / "out",
              settings=SMALL, actors=HERE, progress=killed)  # fmt: skip

    manifest(1)
    with pytest.raises(KeyboardInterrupt):
        run()
    manifest(2)
    with pytest.raises(InputError, match=r"is of another training .its identities differ"):
        run()


def test_what_cannot_be_trained(archive, tmp_path):
    with pytest.raises(InputError, match="no image has an identity"):
        train(str(archive), UntrainedNetwork("demo"), tmp_path / "out")
    with pytest.raises(InputError, match=r"8 of 8 people are left .* takes 9 .`people`."):
        learn(archive, tmp_path / "out", SupervisedSettings(people=9, held_out=0))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"people": 1}, "`people` must be at least 2"),
        ({"workers": -1}, "`workers` must be at least 0"),
        ({"workers": 2}, "2 `workers` cannot share 1 `micro_batches`"),
        ({"micro_batches": 5}, "`micro_batches` 5 must divide `people` 16"),
        ({"learning_rate": 0}, "`learning_rate` must be above 0"),
        ({"color_jitter": 1.5}, "`color_jitter` must lie from 0 to 1"),
        ({"shift": -1}, "`shift` must be at least 0"),
        ({"erasing": 1.5}, "`erasing` must lie from 0 to 1"),
        ({"held_out": 1}, "`held_out` must be from 0 to below 1"),
        ({"weight_decay": -1}, "`weight_decay` must be at least 0"),
        ({"epochs": 5, "warmup": 5}, "`warmup` must be at least 0 and less than the 5"),
        ({"crops": 1}, "`triplets` need at least 2 `crops`"),
        ({"micro_batches": 16}, "`triplets` need at least 2 `crops`"),
        ({"head": "circle"}, "`head` must be one of softmax, arcface"),
        ({"part": "tail"}, "`part` must be one of statistics"),
        ({"triplets": "all"}, "`triplets` must be one of batch-hard"),
        ({"schedule": "linear"}, "`schedule` must be one of cosine"),
    ],
)
def test_settings_are_checked(given, message):
    with pytest.raises(InputError, match=message):
        SupervisedSettings(**given)


@pytest.mark.parametrize("settings", [SMALL, RoundSettings()])
def test_color_jitter_reaches_the_training(settings):
    wanted = replace(settings, color_jitter=0.3)
    given = (1, "float32") if isinstance(settings, RoundSettings) else ("float32",)
    assert settings.training(*given).augmentation == AugmentationSettings()
    assert wanted.training(*given).augmentation == AugmentationSettings(color_jitter=0.3)


def test_shifts_and_erasing_reach_the_training():
    wanted = replace(SMALL, shift=3, erasing=0.25)
    assert wanted.training("float32").augmentation == AugmentationSettings(pad=3, erase=0.25)


def test_the_learning_rate_rises_and_falls():
    def factors(**given):
        schedule = SupervisedSettings(epochs=20, **given).training("float32").schedule
        return [schedule.factor(epoch) for epoch in range(20)]

    cosine = factors()
    assert cosine[0] == 0.1 and cosine[2] == 1
    assert all(a > b for a, b in pairwise(cosine[2:]))
    assert factors(schedule="step", warmup=0) == pytest.approx([1] * 10 + [0.1] * 5 + [0.01] * 5)
    assert factors(schedule="none", warmup=0) == [1] * 20
    SupervisedSettings(epochs=1, schedule="step").training("float32")


@pytest.mark.parametrize("name", ["demo", "osnet_ain_x0_25", "torchvision:shufflenet_v2_x0_5"])
def test_first_weights_are_a_function_of_the_seed(name, tmp_path):
    network = UntrainedNetwork(name)
    state = torch.random.get_rng_state()
    assert network.weights(1) == network.weights(1) != network.weights(2)
    assert torch.equal(torch.random.get_rng_state(), state)
    (tmp_path / "first").write_bytes(network.weights(1))
    network.with_weights(tmp_path / "first").module()


def test_some_networks_have_no_first_weights():
    with pytest.raises(InputError, match=r"bnneck: a checkpoint decides .* osnet_x1_0, .* demo"):
        UntrainedNetwork("bnneck")
    with pytest.raises(InputError, match=r"net\.onnx: a network file cannot be trained"):
        UntrainedNetwork("net.onnx")
    with pytest.raises(InputError, match="no such backbone"):
        UntrainedNetwork("torchvision:nothing")
