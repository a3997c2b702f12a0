"""Extraction of crops against the loops that people write.

    python benchmarks/extraction.py free --crops 8192
    python benchmarks/extraction.py resnet --crops 512
    python benchmarks/extraction.py int8 --crops 64

`free`: a network that costs nothing, against a PyTorch DataLoader loop with the same decoder and
resize, and against `ray.data.read_images -> map_batches -> write_parquet`. `resnet`: layumi's
ft_net with flip, against a loop written the way its test.py is (Pillow, eager float32), and
against the fastest plain loop that we know. `int8`: ft_net as OpenVINO IR, float32 and 8-bit.

Each contestant runs in a process of its own, one after another, round after round, from files to
features on disk; the figures are medians. Libraries are loaded, Ray is started and one small run
has been made before the clock starts; each loads its network within it. Ours is the whole verb:
listing, extraction, checks, commit.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZE = (256, 128)
BATCH = 32
WORKERS = 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def draw(folder, count):
    """`count` JPEG files: a drawn archive, its crops linked under other names again and again."""
    from pipeline.archive.drawn.drawing import draw_archive

    draw_archive(folder / "drawn", identities=16, cameras=3, distractors=20, junk=0)
    drawn = sorted((folder / "drawn").rglob("*.jpg"))
    (folder / "crops").mkdir()
    (folder / "few").mkdir()
    for number in range(count):
        path = folder / "crops" / f"{number:07}.jpg"
        shutil.copy(drawn[number % len(drawn)], path)
        if number < 2 * BATCH:
            shutil.copy(path, folder / "few")


def make_networks(folder):
    """A network that costs nothing, and layumi's ft_net with random weights, as it saves it."""
    import torch

    class Free(torch.nn.Module):
        def forward(self, images):
            return images[:, :, 0, :4].flatten(1) + 1.0

    torch.jit.script(Free()).save(str(folder / "free.pt"))
    torch.manual_seed(0)
    torch.save(layumi_network().state_dict(), folder / "ft_net.pth")


def layumi_network():
    """ft_net built of torchvision's ResNet-50, by the names of its checkpoints."""
    import torch
    import torchvision

    class FtNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = torchvision.models.resnet50(weights=None)
            block = torch.nn.Sequential(torch.nn.Linear(2048, 512), torch.nn.BatchNorm1d(512))
            self.classifier = torch.nn.ModuleDict({"add_block": block})
            self.model.fc = torch.nn.Identity()

        def forward(self, images):
            return self.classifier["add_block"](self.model(images))

    return FtNet().eval()


def load_layumi(folder):
    import torch

    network = layumi_network()
    network.load_state_dict(torch.load(folder / "ft_net.pth", weights_only=True))
    return network.eval()


def ours(kind, actors):
    """`regallery extract` in this process, here (0 actors) or on Ray."""

    def prepare(folder):
        from cluster.connect import connect
        from jobs.extract import extract
        from pipeline.runs.settings import ActorSettings, RecipeSettings

        if actors:
            connect().__enter__()
        model = {"model": str(folder / "free.pt")}
        recipe = RecipeSettings(height=SIZE[0], width=SIZE[1])
        if kind == "resnet":
            model = {"model": "ft_net", "checkpoint": str(folder / "ft_net.pth")}
            recipe = RecipeSettings(flip=True, fusion="raw")
        cpus = WORKERS if actors == 0 else WORKERS // actors
        on = ActorSettings(actors=actors, num_cpus=cpus, batch_size=BATCH)

        def run(source, out):
            extract(str(source), gallery=str(out / "gallery"), recipe=recipe, on=on, **model)

        def features(out):
            from pipeline.gallery.table import Gallery

            rows = Gallery.open(str(out / "gallery")).features()
            return np.asarray(rows.read(0, len(rows)))

        return run, features

    return prepare


def loop(load, decode, *, flip, channels_last):
    """A DataLoader loop: `decode` in worker processes, the network here."""

    def prepare(folder):
        import torch
        from torch.utils.data import DataLoader, Dataset

        torch.set_num_threads(WORKERS)
        ready = decode()

        class Crops(Dataset):
            def __init__(self, source):
                self.paths = sorted(source.iterdir())

            def __len__(self):
                return len(self.paths)

            def __getitem__(self, place):
                return ready(self.paths[place])

        @torch.no_grad()
        def feature(network, images):
            if channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            raw = network(images)
            return raw + network(images.flip(3)) if flip else raw

        def run(source, out):
            network = load(folder)
            crops = DataLoader(Crops(source), batch_size=BATCH, num_workers=WORKERS)
            rows = torch.cat([feature(network, normalized(images)) for images in crops]).numpy()
            np.save(out / "features.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))

        return run, lambda out: np.load(out / "features.npy")

    return prepare


def normalized(images):
    """A batch of uint8 as the network takes it; floats have been normalized already."""
    import torch

    if images.is_floating_point():
        return images
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))
    return images.float().div_(255).sub_(mean).div_(std)


def by_pillow():
    from PIL import Image
    from torchvision import transforms

    prepare = transforms.Compose(
        [
            transforms.Resize(SIZE, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return lambda path: prepare(Image.open(path).convert("RGB"))


def by_our_decoder():
    from pipeline.archive.decoding.images import decode
    from pipeline.model.input.preprocessing import resize

    return lambda path: resize(decode(path.read_bytes()), *SIZE)


def free_network(folder):
    import torch

    return torch.jit.load(str(folder / "free.pt")).eval()


def eager(folder):
    return load_layumi(folder)


def folded(folder):
    """The fastest plain loop we know: normalizations folded, channels last."""
    import torch
    from torch.fx.experimental.optimization import fuse

    network = load_layumi(folder).requires_grad_(False)
    network.model = fuse(network.model)
    return network.to(memory_format=torch.channels_last)


def ray_chain(folder):
    """`read_images -> map_batches -> write_parquet`, with the network in actors."""
    import pyarrow.parquet as pq
    import ray
    import ray.data
    import torch

    from cluster.connect import connect

    connect().__enter__()
    ray.data.DataContext.get_current().enable_progress_bars = False

    class Network:
        def __init__(self):
            self.network = torch.jit.load(str(folder / "free.pt")).eval()

        def __call__(self, batch):
            images = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)
            feature = self.network(normalized(images)).numpy()
            return {"path": batch["path"], "feature": feature}

    def run(source, out):
        ray.data.read_images(str(source), size=SIZE, mode="RGB", include_paths=True).map_batches(
            Network, batch_size=BATCH, compute=ray.data.ActorPoolStrategy(size=1), num_cpus=1
        ).write_parquet(str(out / "features"))

    def features(out):
        return np.stack(pq.read_table(out / "features").sort_by("path")["feature"].to_numpy())

    return run, features


CONTESTS = {
    "free": {
        "ours, plain loop": ours("free", 0),
        "ours, Ray, 2 actors": ours("free", 2),
        "DataLoader, same decoder": loop(
            free_network, by_our_decoder, flip=False, channels_last=True
        ),
        "ray.data read_images": ray_chain,
    },
    "resnet": {
        "ours, plain loop": ours("resnet", 0),
        "ours, Ray, 1 actor": ours("resnet", 1),
        "best plain loop": loop(folded, by_our_decoder, flip=True, channels_last=True),
        "as layumi's test.py": loop(eager, by_pillow, flip=True, channels_last=False),
    },
}
# What `regallery` and its actors set for themselves, the plain loop we know best too; others not.
SETTINGS = {"THP_MEM_ALLOC_ENABLE": "1", "MALLOC_ARENA_MAX": "1"}
UNSET = ("as layumi's test.py", "DataLoader, same decoder", "ray.data read_images")


def contest(kind, name, folder):
    """Run one contestant here, and print what it took."""
    run, features = CONTESTS[kind][name](folder)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        run(folder / "few", Path(out))
    with tempfile.TemporaryDirectory(dir=folder) as out:
        start = time.perf_counter()
        run(folder / "crops", Path(out))
        seconds = time.perf_counter() - start
        np.save(folder / f"{name}.npy", features(Path(out)))
    print(json.dumps({"seconds": seconds}))


def race(kind, names, crops, rounds):
    taken = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        draw(folder, crops)
        make_networks(folder)
        for _ in range(rounds):
            for name in taken:
                settings = {} if name in UNSET else SETTINGS
                ran = subprocess.run(
                    [sys.executable, __file__, kind, "--contest", name, place],
                    env=os.environ | settings, check=True, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
                taken[name].append(json.loads(ran.stdout.splitlines()[-1])["seconds"])
        rows = {name: np.load(folder / f"{name}.npy") for name in taken}
    first = next(iter(rows.values())).astype(float)
    mine = statistics.median(taken[next(iter(taken))])
    print(f"{crops} crops, {WORKERS} CPUs, batches of {BATCH}")
    print(f"{'':28}{'crops/s':>9}{'ours is':>9}{'largest 1 - cos':>17}")
    for name, runs in taken.items():
        seconds = statistics.median(runs)
        unit = rows[name] / np.linalg.norm(rows[name], axis=1, keepdims=True)
        distance = (1 - (first * unit).sum(1)).max()
        print(f"{name:28}{crops / seconds:9.0f}{seconds / mine:9.2f}{distance:17.1e}")


def int8(crops, rounds):
    """ft_net with random weights by OpenVINO: the gain in speed says what the processor can."""
    from jobs.model import model
    from pipeline.runs.settings import ExportSettings

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        draw(folder, crops)
        make_networks(folder)
        common = {"checkpoint": str(folder / "ft_net.pth"), "threads": WORKERS, "batch_size": 16}
        whole = ExportSettings(to="openvino", out=folder / "whole.xml")
        model("export", "ft_net", **common, export=whole)
        eighth = ExportSettings(
            to="openvino", out=folder / "int8.xml", quantize="int8", sample=str(folder / "crops")
        )
        told = model("export", "ft_net", **common, export=eighth)
        speeds = {"float32": [], "int8": []}
        for _ in range(rounds):
            for name, file in (("float32", "whole.xml"), ("int8", "int8.xml")):
                info = model("info", str(folder / file), threads=WORKERS, batch_size=16)
                speeds[name].append(info.speeds["openvino"])
    medians = {name: statistics.median(each) for name, each in speeds.items()}
    print(f"ft_net by OpenVINO, {WORKERS} CPUs, batches of 16, the network alone")
    print(f"float32 {medians['float32']:.1f} crops/s, int8 {medians['int8']:.1f} crops/s,")
    print(f"{medians['int8'] / medians['float32']:.2f} times; 1 - cos {told.deviation:.1e} at most")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=[*CONTESTS, "int8"])
    parser.add_argument("--crops", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", help="a contestant's name; repeatable")
    parser.add_argument("--contest", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contest:
        contest(chosen.kind, chosen.contest[0], Path(chosen.contest[1]))
    elif chosen.kind == "int8":
        int8(chosen.crops, chosen.rounds)
    else:
        names = chosen.only or CONTESTS[chosen.kind]
        race(chosen.kind, names, chosen.crops, chosen.rounds)


if __name__ == "__main__":
    main()
