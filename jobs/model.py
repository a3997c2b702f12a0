"""model: show what a network is, or convert it to another format."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.flags import ExportFlags, RecipeFlags
from jobs.command.progress import working
from pipeline.errors import InputError
from pipeline.runs.locations import Location
from pipeline.runs.settings import ExportSettings, RecipeSettings, stated


@dataclass(frozen=True)
class ModelInfo:
    """A network: `input` is (height, width), `speeds` are crops a second by backend.

    `sources` has the origin of each field of the recipe: given, the file, its toolbox, assumed
    (nothing says so), or default (a choice of how to run the network). `remark` says what the
    network's first operations mean for the recipe, `unread` why they could not be read.
    `not_measured` has the reason for each backend without a speed. `int8_pays` is true if this
    processor multiplies bytes (VNNI, AMX), so that a copy in int8 is much faster here.
    """

    model: str
    checkpoint: str | None
    input: tuple[int, int]
    dimension: int
    parameter_count: int
    recipe: dict[str, Any]
    sources: dict[str, str]
    remark: str | None
    unread: str | None
    fingerprint: str
    threads: int
    batch_size: int
    speeds: dict[str, float]
    not_measured: dict[str, str]
    int8_pays: bool


@dataclass(frozen=True)
class Exported:
    """A network that was written as another file, compared with its source on `crops` crops.

    `deviation` is the largest cosine distance of a feature from the source's; `speeds` are crops a
    second of source and copy; if queries were given, `accuracy` holds mAP and rank-1 of both, and
    `differences` the 95 % interval of each loss or gain, over `queries` queries. `pruned` says what
    pruning removed (the fields of `runs.pruned_copy.PrunedNetwork`), if it was asked for.
    """

    model: str
    out: str
    kind: str
    quantized: bool
    file_bytes: int
    recipe_file: str
    fingerprint: str
    source_fingerprint: str
    crops: int
    deviation: float
    speeds: dict[str, float]
    accuracy: dict[str, dict[str, float]] | None
    differences: dict[str, tuple[float, float]] | None
    queries: int
    pruned: dict[str, Any] | None


def model(
    action: Literal["info", "export"],
    network: Location,
    /,
    *,
    checkpoint: Location | None = None,
    threads: Annotated[int, Parameter(name="--num-cpus")] = 1,
    batch_size: int = 32,
    speed: bool = True,
    recipe: RecipeFlags = RecipeSettings(),
    export: ExportFlags = ExportSettings(),
) -> ModelInfo | Exported:
    """Show what a network is, or convert it to another format.

    `info` shows its input, dimension, parameters, recipe (and which fields
    are assumed) and speed on this machine. `export` writes a copy, and
    refuses one whose features differ from the source's. `--prune` writes a
    smaller network, and refuses one that loses more mAP than `--max-loss`.

    For example:

        regallery model export osnet_x0_25 --checkpoint model.pth.tar-60
        --to openvino --out osnet.xml

    Args:
        action: info or export.
        network: A network, as for extract --model.
        checkpoint: File of weights for a built-in network or a torchvision backbone, by its path
            or URL.
        threads: CPUs to measure with.
        batch_size: Crops in one batch of the network.
        speed: Measure the speed with every backend that can run the network.
    """
    for flag, value in (("--num-cpus", threads), ("--batch-size", batch_size)):
        if value < 1:
            raise InputError(f"{flag} must be at least 1, not {value}")
    if action == "info" and export != ExportSettings():
        given = sorted(stated(export).items() - stated(ExportSettings()).items())
        raise InputError(
            f"--{given[0][0].replace('_', '-')} is a flag of model export, not of info"
        )
    from pipeline.model.kinds import check_network_file

    check_network_file(network)
    from pipeline.model.fetched_networks import network_file
    from pipeline.model.networks import start_recipe
    from pipeline.model.recipe import load_recipe_fields

    file = network_file(network, checkpoint)
    fields = load_recipe_fields(recipe.recipe) if recipe.recipe else {}
    start = start_recipe(file, fields | stated(recipe, without=("recipe",)))
    run: dict[str, Any] = {"threads": threads, "batch_size": batch_size}
    if action == "info":
        return _info(file, start, run, speed=speed)
    from pipeline.runs.model_copy import write_copy

    with working("writing and comparing the copy"):
        return Exported(**write_copy(file, start.recipe, export, run))


def describe(result: ModelInfo | Exported) -> RenderableType:
    """Facts in two columns, then speeds, and accuracy where it was measured."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    told = _facts(result) if isinstance(result, ModelInfo) else _written(result)
    for name, text in told.items():
        facts.add_row(name, Text(text))
    return Group(facts)


def _info(file: Any, start: Any, run: dict[str, Any], *, speed: bool) -> ModelInfo:
    from dataclasses import asdict

    from pipeline.core.processor import has_byte_products
    from pipeline.model.copies.probe import parameters
    from pipeline.model.extractor import Extractor
    from pipeline.runs.model_copy import speeds

    wanted = start.recipe
    size = wanted.height, wanted.width
    dimension = Extractor(file, wanted, **run).dimension
    found, reasons = speeds(file, wanted, run) if speed else ({}, {})
    return ModelInfo(
        model=file.given[0],
        checkpoint=file.given[1],
        input=size,
        dimension=dimension,
        parameter_count=parameters(file),
        recipe=asdict(wanted),
        sources=dict(start.sources),
        remark=start.remark,
        unread=start.opening.why_unknown,
        fingerprint=wanted.fingerprint,
        threads=run["threads"],
        batch_size=run["batch_size"],
        speeds=found,
        not_measured=reasons,
        int8_pays=has_byte_products(),
    )


def _facts(result: ModelInfo) -> dict[str, str]:
    from pipeline.report.figures import scalar

    several = "s" if result.threads > 1 else ""
    on = f"batches of {result.batch_size}, {result.threads} thread{several}"
    return {
        "model": " ".join(each for each in (result.model, result.checkpoint) if each),
        "input": f"3 x {result.input[0]} x {result.input[1]} (height x width)",
        "feature": f"{result.dimension} dimensions",
        "parameters": f"{result.parameter_count:,}",
        "recipe": result.fingerprint,
        **{
            f"  {name}": f"{scalar(value)}{_source(result.sources.get(name))}"
            for name, value in result.recipe.items()
            if value is not None
        },
        "int8": "pays here: this processor multiplies bytes"
        if result.int8_pays
        else "gains little here: this processor does not multiply bytes (no VNNI)",
        **({"first operations": result.remark} if result.remark else {}),
        **({"first operations": f"unknown: {result.unread}"} if result.unread else {}),
        **({"speed": f"crops a second, {on}"} if result.speeds else {}),
        **{f"  {name}": f"{value:,.1f}" for name, value in result.speeds.items()},
        **{f"  {name}": f"not measured: {why}" for name, why in result.not_measured.items()},
    }


def _source(source: str | None) -> str:
    if source == "assumed":
        return "  (assumed: nothing in the file says so)"
    return (
        "" if source in (None, "default") else f"  (from {source})".replace("from given", "given")
    )


def _written(result: Exported) -> dict[str, str]:
    told = {
        "written": f"{result.out}, {result.file_bytes:,} bytes"
        f"{', int8' if result.quantized else ''}",
        "recipe": f"{result.fingerprint[:12]} (the source's is {result.source_fingerprint[:12]})",
        "settings": f"{result.recipe_file}: give it to extract as --recipe",
        "deviation": f"{result.deviation:.2e} at most (1 - cosine), on {result.crops} crops",
        "speed": f"{result.speeds['copy']:,.1f} crops a second, the source"
        f" {result.speeds['source']:,.1f}: {result.speeds['copy'] / result.speeds['source']:.2f}"
        " times",
    }
    if result.pruned:
        told["pruned"] = _removed(result.pruned)
    if result.accuracy and result.differences:
        before, after = result.accuracy["source"], result.accuracy["copy"]
        told["accuracy"] = ", ".join(
            f"{name} {100 * after[name]:.2f} ({100 * (after[name] - before[name]):+.2f}, 95 %"
            f" interval {100 * result.differences[name][0]:+.2f} to"
            f" {100 * result.differences[name][1]:+.2f}{_chance(*result.differences[name])})"
            for name in ("mAP", "rank-1")
        )
        told["accuracy"] += f", on {result.queries} queries"
    return told


def _removed(pruned: dict[str, Any]) -> str:
    """What pruning removed, and how the recovery went."""
    (weights, left), (work, less), losses = (
        pruned[name] for name in ("parameters", "multiply_adds", "losses")
    )
    recovery = ""
    if losses:
        recovery = f"; recovery: {losses[0]:.4f} from the source's features (1 - cosine)"
        recovery += f" in the first of {len(losses)} epochs, {losses[-1]:.4f} in the last"
    return (
        f"{pruned['share']:.0%} of the channels: {left:,} parameters of {weights:,},"
        f" {less / 1e6:,.1f} million multiply-adds of {work / 1e6:,.1f}{recovery}"
    )


def _chance(low: float, high: float) -> str:
    from pipeline.core.evaluation.bootstrap import Interval
    from pipeline.report.figures import may_be_chance

    return ", which includes zero: may be chance" if may_be_chance(Interval(low, high)) else ""


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["model", *sys.argv[1:]]))
