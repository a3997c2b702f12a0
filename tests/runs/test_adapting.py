"""Adaptation from end to end on a small drawn archive, killed and resumed, and what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import demo_network
from pipeline.archive.drawn.passages import PASSAGE_LAYOUT, draw_passages
from pipeline.core.blocks import as_rows
from pipeline.core.clusters.encoding import CameraEncoding
from pipeline.core.evaluation.labels import NO_CAMERA
from pipeline.errors import InputError, RunError
from pipeline.gallery.log.lock import hold
from pipeline.gallery.table import Gallery
from pipeline.model.backends.torch_network import torch_threads
from pipeline.model.networks import NetworkFile
from pipeline.model.trainable import TrainableFile, TrainableModule
from pipeline.runs import adapt_rounds, adapting
from pipeline.runs.acceptance import AcceptanceSettings, compare_networks
from pipeline.runs.adapt_rounds import SeenRows, find_clusters
from pipeline.runs.adapted import RoundSettings
from pipeline.runs.adapting import adapt
from pipeline.runs.clustering import cluster_rows
from pipeline.runs.network_training import NetworkSource
from pipeline.runs.pair_tables import pair_table, write_pairs
from pipeline.runs.path_verdicts import NO_VERDICTS
from pipeline.stages.train import CHECKPOINT

DEMO = str(Path(demo_network.__file__).with_name("demo.safetensors"))
NETWORK = TrainableFile(NetworkFile("demo", DEMO))
ROUNDS = RoundSettings(rounds=2, round_epochs=1, people=4, crops=2, held_out=0.6, min_samples=2)


@pytest.fixture(autouse=True)
def one_thread():
    """Tests run side by side: threads that wait for each other would take all of their time."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Twenty people under two cameras, four crops of each passage."""
    root = tmp_path_factory.mktemp("archive")
    draw_passages(root, identities=20, cameras=2, crops=4, night=True)
    return root


@pytest.fixture(scope="module")
def adapted(archive, tmp_path_factory):
    with torch_threads(1):
        out = tmp_path_factory.mktemp("adapted") / "out"
        return adapt(str(archive), NETWORK, out, layout=PASSAGE_LAYOUT, rounds=ROUNDS)


def random_rows(count):
    """Rows of two cameras without any people in them."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    numbers = np.arange(count)
    return SeenRows(as_rows(features), numbers % 2, numbers, numbers,
                    pa.chunked_array([[f"{n}.jpg" for n in range(count)]]),
                    pa.chunked_array([pa.nulls(count, pa.string())]))  # fmt: skip


def test_each_round_leaves_its_clusters_and_weights(archive, adapted):
    assert [each.number for each in adapted.rounds] == [1, 2]
    assert [path.name for path in (adapted.out / "round-00").iterdir()] == ["gallery"]
    assert not (adapted.out / "round-01" / "gallery").exists()
    assert Gallery.open(str(adapted.out / "round-02" / "gallery")).count == adapted.crops
    for told in adapted.rounds:
        folder = adapted.out / f"round-{told.number:02d}"
        table = pq.read_table(folder / "clusters.parquet")
        clusters = table["cluster"].to_numpy()
        assert told.rows_clustered == len(table) < adapted.crops
        assert told.clusters == clusters.max() + 1 >= ROUNDS.people
        assert told.noise == (clusters < 0).sum()
        assert (folder / "network.safetensors").stat().st_size > 600_000
        assert not (folder / CHECKPOINT).exists() and not (folder / "clusters").exists()
        (losses,) = told.losses
        assert losses.keys() == {"clusters", "cameras"} and losses["clusters"] > 0
        assert 1 <= told.cameras_per_cluster <= 2
    assert not list(adapted.out.glob("crops-*"))
    assert adapted.test is not None and adapted.test.basis == "tracklets"
    assert adapted.test.mean_ap is not None
    last = (adapted.out / "round-02" / "network.safetensors").read_bytes()
    if adapted.test.accepted:
        assert adapted.network.read_bytes() == last
    else:
        assert adapted.network is None


def test_the_test_compares_the_first_network_with_the_last(adapted):
    first, last = (Gallery.open(str(adapted.out / f"round-{n:02d}/gallery")) for n in (0, 2))
    settings = AcceptanceSettings(ROUNDS.held_out)
    assert compare_networks(first, last, settings) == adapted.test
    assert adapted.test.rates.before != adapted.test.rates.after


def test_the_learning_rate_falls_along_one_cosine_over_all_rounds():
    settings = RoundSettings(rounds=3, round_epochs=2)
    found = []
    for number in (1, 2, 3):
        training = settings.training(number, "float32")
        found += [training.schedule.factor(training.epochs_before + epoch) for epoch in (0, 1)]
    assert found == pytest.approx([(1 + np.cos(np.pi * n / 6)) / 2 for n in range(6)])


def test_the_first_round_averages_over_more_neighbors_of_other_cameras(monkeypatch, tmp_path):
    """Later rounds, and rows without cameras, have the defaults."""
    seen = []

    def spy(features, folder, settings, **others):
        seen.append((settings.encoding, others["cameras"] is not None))
        return cluster_rows(features, folder, settings, **others)

    monkeypatch.setattr(adapt_rounds, "cluster_rows", spy)
    rows = random_rows(60)
    people = np.repeat(rows.features.read(0, 10), 6, axis=0)
    rows = replace(rows, features=as_rows(people))
    settings = RoundSettings(people=2, min_samples=2, eps=0.6)
    links = NO_VERDICTS.among(rows.path)
    find_clusters(rows, settings, links, tmp_path / "first", first=True)
    find_clusters(rows, settings, links, tmp_path / "second", first=False)
    unknown = replace(rows, camera=np.full(60, NO_CAMERA))
    find_clusters(unknown, settings, links, tmp_path / "unknown", first=True)
    first = CameraEncoding(k2_same=3, k2_other=3)
    assert seen == [(first, True), (None, True), (None, False)]


def test_held_out_tracklets_are_not_trained(archive, adapted):
    """Nor does anything of them reach the clusters."""
    everything = {path.relative_to(archive).as_posix() for path in archive.rglob("*.jpg")}
    seen = set(pq.read_table(adapted.out / "round-01" / "clusters.parquet")["path"].to_pylist())
    left = {path.split("_")[2] for path in everything - seen}
    assert left and left.isdisjoint(path.split("_")[2] for path in seen)


def kill_at(archive, out, moment, call):
    """An adaptation that ends, as if killed, when it comes to a moment for the `call`-th time."""
    calls, real = [], getattr(adapting, moment)

    def killed(*args, **kwargs):
        calls.append(moment)
        if len(calls) == call:
            raise RuntimeError("killed")
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(adapting, moment, killed)
        adapt(str(archive), NETWORK, out, layout=PASSAGE_LAYOUT, rounds=ROUNDS)


@pytest.fixture(scope="module")
def half_done(archive, tmp_path_factory):
    """The folder of an adaptation that was killed when its first round was done."""
    with torch_threads(1):
        out = tmp_path_factory.mktemp("half done") / "out"
        kill_at(archive, out, "find_clusters", 2)
        return out


@pytest.mark.parametrize(
    "moment", ["extract_round", "find_clusters", "describe_round", "write_round"]
)
def test_a_killed_adaptation_goes_on_to_the_same_bits(
    archive, adapted, half_done, tmp_path, moment
):
    out = tmp_path / "out"
    if moment == "extract_round":  # before the first round
        kill_at(archive, out, moment, 2)
    else:
        shutil.copytree(half_done, out)
        kill_at(archive, out, moment, 1)
    again = adapt(str(archive), NETWORK, out, layout=PASSAGE_LAYOUT, rounds=ROUNDS)
    for number in (1, 2):
        name = f"round-{number:02d}/network.safetensors"
        assert (out / name).read_bytes() == (adapted.out / name).read_bytes()
    assert again.rounds == adapted.rounds and again.test == adapted.test


def test_a_finished_adaptation_is_only_read(archive, adapted, monkeypatch):
    monkeypatch.setattr(adapting, "_do_round", None)
    again = adapt(str(archive), NETWORK, adapted.out, layout=PASSAGE_LAYOUT, rounds=ROUNDS)
    assert again.rounds == adapted.rounds and again.network == adapted.network


def test_two_runs_cannot_share_a_folder(archive, adapted, tmp_path):
    with (
        hold(str(adapted.out), "adapt to another archive"),
        pytest.raises(InputError, match="is being changed by 'adapt to another archive'"),
    ):
        adapt(str(archive), NETWORK, adapted.out, layout=PASSAGE_LAYOUT, rounds=ROUNDS)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="this is not a folder"):
        adapt(str(archive), NETWORK, tmp_path / "file", layout=PASSAGE_LAYOUT, rounds=ROUNDS)


def test_mistakes_make_crops_hard_in_every_round(archive, adapted, tmp_path, monkeypatch):
    paths = sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*.jpg"))
    rows = [pa.table({"path": [path], "camera": ["1"]}) for path in (paths[0], paths[-1])]
    columns = {"a": ["0"], "b": ["1"], "verdict": ["different"]}
    write_pairs(tmp_path / "m.csv", pair_table(columns, dict(zip("ab", rows, strict=True))))
    seen = []

    def stopped(self, work, workers, progress):
        seen.append(work)
        raise RuntimeError("stopped")

    def run(out, mistakes):
        adapt(str(archive), NETWORK, out, layout=PASSAGE_LAYOUT, rounds=ROUNDS, mistakes=mistakes)

    monkeypatch.setattr(NetworkSource, "train", stopped)
    with pytest.raises(RuntimeError, match="stopped"):
        run(tmp_path / "out", tmp_path / "m.csv")
    (hard,) = (work.hard for work in seen)
    assert np.flatnonzero(hard.weights > 1).tolist() == [0, len(paths) - 1]
    assert hard.rivals.tolist() == [[0, len(paths) - 1]]
    with pytest.raises(InputError, match="its mistakes differ"):
        run(adapted.out, tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("change", "told"),
    [({"learning_rate": 1e-2}, "settings"), ({"seed": 3}, "settings"), ({}, "network")],
)
def test_a_folder_of_another_adaptation_is_refused(archive, adapted, change, told):
    network = NETWORK if change else TrainableFile(NETWORK.file, {"flip": True})
    with pytest.raises(InputError, match=rf"of another adaptation \(its {told} differ\)"):
        adapt(
            str(archive), network, adapted.out, layout=PASSAGE_LAYOUT,
            rounds=replace(ROUNDS, **change),
        )  # fmt: skip


def test_a_worse_network_is_not_published(archive, adapted, tmp_path, monkeypatch):
    """And one that was published before is taken away."""
    (tmp_path / "network.safetensors").write_bytes(b"from before")
    worse = replace(adapted.test.rates, interval=replace(adapted.test.rates.interval, low=-0.5))
    monkeypatch.setattr(
        adapting, "compare_networks", lambda *_, **__: replace(adapted.test, rates=worse)
    )
    done = adapt(str(archive), NETWORK, tmp_path, layout=PASSAGE_LAYOUT,
                 rounds=replace(ROUNDS, rounds=1))  # fmt: skip
    assert done.network is None and "is not accepted" in done.test.reason
    assert not (tmp_path / "network.safetensors").exists()


def test_an_archive_without_anything_to_test_on(tmp_path, archive):
    """No network is written, unless it is asked for."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for n, path in enumerate(sorted(archive.rglob("*.jpg"))[:60]):
        (flat / f"{n:03d}.jpg").write_bytes(path.read_bytes())
    (flat / "bad.jpg").write_bytes(b"no image")
    rounds = replace(ROUNDS, rounds=1, people=2)
    refused = adapt(str(flat), NETWORK, tmp_path / "out", rounds=rounds)
    assert refused.network is None and "cannot be compared" in refused.untested
    kept = adapt(str(flat), NETWORK, tmp_path / "out", rounds=replace(rounds, untested=True))
    assert kept.network.read_bytes() and kept.rounds == refused.rounds
    assert (kept.crops, kept.rejected) == (60, 1)
    assert kept.rounds[0].agreement is None and kept.rounds[0].cameras_per_cluster == 1


def test_a_module_of_the_users_own_is_adapted(archive, tmp_path):
    module = NETWORK.module()
    own = TrainableModule(module, {"height": 128, "width": 64})
    rounds = replace(ROUNDS, rounds=1)
    done = adapt(str(archive), own, tmp_path / "own", layout=PASSAGE_LAYOUT, rounds=rounds)
    named = adapt(str(archive), NETWORK, tmp_path / "named", layout=PASSAGE_LAYOUT, rounds=rounds)
    assert [each.clusters for each in done.rounds] == [each.clusters for each in named.rounds]


def test_too_few_clusters_for_a_batch(tmp_path):
    rows = random_rows(30)
    with pytest.raises(RunError, match=r"30 rows fall into \d+ clusters .* a batch takes 16"):
        find_clusters(rows, RoundSettings(), NO_VERDICTS.among(rows.path), tmp_path, first=True)


def test_values_that_give_enough_clusters_are_named_and_do(tmp_path):
    rows = random_rows(120)

    def clusters(**fields):
        links = NO_VERDICTS.among(rows.path)
        return find_clusters(rows, RoundSettings(**fields), links, tmp_path, first=True).count

    advice = r"`eps` 0\.475 \(11 clusters\), or at most 10 `people`, or `min_samples` below 4"
    with pytest.raises(RunError, match=f"120 rows fall into 10 clusters at eps 0.45.*{advice}"):
        clusters(people=11)
    assert clusters(people=11, eps=0.475) == 11
    assert clusters(people=10) == 10
    with pytest.raises(
        RunError, match="give another `eps`, or none, to have it chosen, or at most"
    ):
        clusters(people=11, eps=0.45)
    with pytest.raises(RunError, match="give more crops"):  # 2 people are the fewest, too
        find_clusters(
            random_rows(3), RoundSettings(min_samples=2), NO_VERDICTS.among(rows.path), tmp_path,
            first=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounds": 0}, "`rounds` must be at least 1"),
        ({"round_epochs": 0}, "`round_epochs` must be at least 1"),
        ({"people": 1}, "`people` must be at least 2"),
        ({"workers": -1}, "`workers` must be at least 0"),
        ({"workers": 2}, "cannot share 1 `micro_batches`"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0"),
        ({"eps": 1.0}, "`eps` must lie between 0 and 1"),
        ({"held_out": 1.0}, "`held_out` must lie between 0 and 1"),
        ({"micro_batches": 3}, "`micro_batches` 3 must divide `people` 16"),
    ],
)
def test_impossible_settings(fields, message):
    with pytest.raises(InputError, match=message):
        RoundSettings(**fields)


def test_what_was_claimed_is_readable(adapted):
    held = json.loads((adapted.out / "adapt.json").read_text())
    assert held["settings"]["people"] == 4 and held["precision"] == "float32"
