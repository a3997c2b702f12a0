"""Train the small network of `regallery demo` on drawn people whom the demo never shows.

    python -m jobs.demo_network.train

draws the people, trains for about ten minutes on one thread, and writes
`jobs/demo_network/demo.onnx`: 128 x 64 RGB with ImageNet mean and deviation to 128 numbers; and
beside it `demo.safetensors`, the same weights as a checkpoint of the network `demo`, which can be
trained further. The same seed gives the same network on one kind of machine.
"""

import argparse
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from pipeline.archive.drawn.drawing import draw_archive
from pipeline.model.architectures.demo import SIZE, DemoNetwork
from pipeline.model.trainable import weights_bytes

_log = logging.getLogger(__name__)

HEIGHT, WIDTH = SIZE
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Training:
    """Everything that decides which network comes out."""

    seed: int = 0
    archives: int = 12
    identities: int = 40
    cameras: int = 6
    crops_per_camera: int = 3
    steps: int = 4000
    people_per_batch: int = 12
    crops_per_person: int = 4
    learning_rate: float = 2e-3
    margin: float = 0.3


def load_crops(training: Training, folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the archives and return crops uint8 `[N, 3, H, W]`, identities and cameras `[N]`."""
    images, people, cameras = [], [], []
    for number in range(training.archives):
        root = folder / str(number)
        draw_archive(
            root,
            identities=training.identities,
            cameras=training.cameras,
            crops_per_camera=training.crops_per_camera,
            distractors=0,
            junk=0,
            seed=1000 * (training.seed + 1) + number,  # never the demo's seed
            first_identity=1 + number * training.identities,
        )
        for file in sorted(root.glob("*/*.jpg")):
            identity, place = file.name.split("_")[:2]
            image = Image.open(file).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            images.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
            people.append(int(identity) - 1)
            cameras.append(100 * number + int(place[1:].split("s")[0]))
    return torch.stack(images), torch.tensor(people), torch.tensor(cameras)


def draw_batch(
    people: Tensor, cameras: Tensor, training: Training, rng: np.random.Generator
) -> Tensor:
    """Choose the rows of a batch: a few people, each from as many cameras as possible."""
    rows: list[int] = []
    for person in rng.choice(int(people.max()) + 1, training.people_per_batch, replace=False):
        own = rng.permutation(np.flatnonzero((people == int(person)).numpy()))
        places = cameras.numpy()[own]
        first = np.unique(places, return_index=True)[1]
        later = np.setdiff1d(np.arange(len(own)), first)
        chosen = np.concatenate([rng.permutation(first), rng.permutation(later)])
        rows += own[chosen[: training.crops_per_person]].tolist()
    return torch.tensor(rows)


def augment(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Tint, grain, flip, scale and shift uint8 crops; return them normalized."""
    x = crops.float() / 255
    count = len(x)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    gains = uniform(0.75, 1.3, 1, 1, 1) * uniform(0.88, 1.12, 3, 1, 1)
    x = ((x + 1e-3) ** uniform(0.8, 1.25, 1, 1, 1) * gains).clamp(0, 1)
    x = x + 0.03 * torch.randn(x.shape, generator=generator)
    turn = torch.zeros(count, 2, 3)
    turn[:, 0, 0] = uniform(0.88, 1.05) * (uniform(0, 1) < 0.5).float().mul(2).sub(1)
    turn[:, 1, 1] = uniform(0.88, 1.05)
    turn[:, 0, 2], turn[:, 1, 2] = uniform(-0.12, 0.12), uniform(-0.08, 0.08)
    grid = F.affine_grid(turn, [count, 3, HEIGHT, WIDTH], align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return normalize(x)


def normalize(x: Tensor) -> Tensor:
    """Apply the ImageNet mean and deviation to images of 0 to 1."""
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def hardest_triplets(embeddings: Tensor, people: Tensor, margin: float) -> Tensor:
    """Batch-hard triplet loss on unit vectors (Hermans et al. 2017)."""
    unit = F.normalize(embeddings)
    distances = (2 - 2 * unit @ unit.T).clamp_min(1e-6).sqrt()
    same = people[:, None] == people[None]
    farthest = distances.masked_fill(~same, -1).amax(1)
    nearest = distances.masked_fill(same, 9).amin(1)
    return F.relu(farthest - nearest + margin).mean()


def train(training: Training, crops: Tensor, people: Tensor, cameras: Tensor) -> DemoNetwork:
    """Train on identities (softmax) and on distances (triplets, which come in over a third)."""
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    generator = torch.Generator().manual_seed(training.seed)
    network = DemoNetwork()
    classify = nn.Linear(network.embed.out_features, int(people.max()) + 1, bias=False)
    weights = [*network.parameters(), *classify.parameters()]
    optimizer = torch.optim.AdamW(weights, training.learning_rate, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, training.steps, pct_start=0.1
    )
    start = time.perf_counter()
    for step in range(1, training.steps + 1):
        rows = draw_batch(people, cameras, training, rng)
        embeddings = network.embedding(augment(crops[rows], generator))
        softmax = F.cross_entropy(
            classify(network.neck(embeddings)), people[rows], label_smoothing=0.1
        )
        triplets = hardest_triplets(embeddings, people[rows], training.margin)
        loss = softmax + min(1.0, 3 * step / training.steps) * triplets
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            _log.info(
                "step %d of %d, %.0f s: softmax %.3f, triplets %.3f",
                step, training.steps, time.perf_counter() - start, softmax.item(), triplets.item(),
            )  # fmt: skip
    return network.eval()


def write_onnx(network: DemoNetwork, path: Path) -> None:
    """Fold the norms into the layers (in place) and write ONNX with a free batch axis."""
    for i, norm in enumerate(network.norms):
        convolution = cast(nn.Conv2d, network.convolutions[i])
        network.convolutions[i] = fuse_conv_bn_eval(convolution, cast(nn.BatchNorm2d, norm))
        network.norms[i] = nn.Identity()
    network.embed = fuse_linear_bn_eval(network.embed, cast(nn.BatchNorm1d, network.neck))
    network.neck = nn.Identity()
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, HEIGHT, WIDTH),),
        str(path),
        input_names=["images"],
        output_names=["features"],
        dynamic_axes={"images": {0: "batch"}, "features": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


def main() -> None:
    """Draw, train, export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("demo.onnx"))
    parser.add_argument("--seed", type=int, default=Training.seed)
    parser.add_argument("--steps", type=int, default=Training.steps)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    training = Training(seed=given.seed, steps=given.steps)
    with tempfile.TemporaryDirectory() as folder:
        crops, people, cameras = load_crops(training, Path(folder))
    _log.info("drew %d crops of %d people", len(crops), int(people.max()) + 1)
    network = train(training, crops, people, cameras)
    given.out.with_suffix(".safetensors").write_bytes(weights_bytes(network))
    write_onnx(network, given.out)
    _log.info("wrote %s, %.2f MB", given.out, given.out.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
