"""The work of `model`: a network's speeds, its copy, and the deviation of the copy from its
source.
"""

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.archive.listing.source import Listing
from pipeline.core.evaluation.bootstrap import Bootstrap, intervals
from pipeline.errors import InputError, RunError
from pipeline.model.copies import int8
from pipeline.model.copies.export import COPY_SUFFIXES, DEVIATION, Target, deviation, export_network
from pipeline.model.copies.probe import crops_per_second
from pipeline.model.extractor import Extractor
from pipeline.model.functions import Crops
from pipeline.model.input.preprocessing import empty_batch, fill_batch, standardize
from pipeline.model.kinds import network_kind
from pipeline.model.networks import NetworkFile, default_recipe, open_network
from pipeline.model.recipe import Recipe
from pipeline.output_files import check_new_file, has_mark, name_write_errors
from pipeline.runs.copy_crops import accuracy, labeled_sides, sample_crops
from pipeline.runs.pruned_copy import check_loss, check_pruning, write_pruned
from pipeline.runs.settings import ExportSettings

_MARK = "# regallery model export: the recipe of the network with the SHA-256"
_LEAST_ROOM = 1 << 20
_NAMES = ("mAP", "rank-1")
_COPIES: tuple[tuple[Target, str], ...] = (("onnx", "onnxruntime"), ("openvino", "openvino"))


def speeds(
    file: NetworkFile, recipe: Recipe, run: dict[str, Any]
) -> tuple[dict[str, float], dict[str, str]]:
    """Crops per second of a network by backend, and the reason for each backend that cannot run
    it.
    """
    size = recipe.height, recipe.width
    kind = "torch" if file.named else network_kind(file.path)
    own = {"onnx": "onnxruntime", "openvino": "openvino"}.get(kind, "torch")
    named = {"output": recipe.output}
    ways: dict[str, tuple[NetworkFile, dict[str, Any]]] = {own: (file, named)}
    found: dict[str, float] = {}
    reasons: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        if kind in ("torch", "export"):
            ways["torch, compiled"] = file, {"compiled": True, **named}
        for target, backend in _COPIES:
            if backend in ways or own == "openvino" or (own, target) == ("onnxruntime", "onnx"):
                continue
            copy = Path(folder, "copy" + COPY_SUFFIXES[target])
            try:
                export_network(file, size, target, copy, recipe.output)
                ways[backend] = NetworkFile(str(copy)), (named if own == "onnxruntime" else {})
            except InputError as error:
                reasons[backend] = str(error)
        for backend, (each, how) in ways.items():
            try:
                network = open_network(each, size=size, **run, **how)
                found[backend] = crops_per_second(network, size, run["batch_size"])
            except InputError as error:
                reasons[backend] = str(error)
    return found, reasons


def write_copy(
    file: NetworkFile, recipe: Recipe, flags: ExportSettings, run: dict[str, Any]
) -> dict[str, Any]:
    """Write the copy, compare it with its source, and return the fields of `Exported`.

    Nothing is left behind if the copy is refused. Raise InputError for flags that do not go
    together, for a sample that is also evaluated, and for a copy that deviates by more than
    DEVIATION, or int8.INT8_DEVIATION if it is quantized; a pruned copy may deviate. Raise RunError
    for a copy that may lose more mAP than `max_loss`.
    """
    out = _checked(flags)
    sample = sample_crops(flags)
    sides = labeled_sides(flags)
    with _report_full_disk(out):
        return _write_copy(file, recipe, flags, run, out, sample, sides)


def _write_copy(
    file: NetworkFile,
    recipe: Recipe,
    flags: ExportSettings,
    run: dict[str, Any],
    out: Path,
    sample: Crops,
    sides: tuple[Listing, Listing] | None,
) -> dict[str, Any]:
    with _hidden_folder(out) as folder, tempfile.TemporaryDirectory() as scratch:
        made = folder / out.name
        whole, pruned = file, None
        if flags.prune is not None:
            whole = NetworkFile(str(Path(scratch, "pruned.pt")))
            pruned = write_pruned(
                file, recipe, sample, Path(whole.path), share=flags.prune, epochs=flags.recover,
                threads=run["threads"],
            )  # fmt: skip
        if flags.quantize:
            _quantized(whole, recipe, sample, made, flags)
        elif pruned and flags.to == "torchscript":
            shutil.copyfile(whole.path, made)
        else:
            size = recipe.height, recipe.width
            output = None if pruned else recipe.output
            export_network(whole, size, cast(Any, flags.to), made, output)
        copy = NetworkFile(str(made))
        fields = {
            k: v for k, v in dataclasses.asdict(recipe).items() if k != "weights" and v is not None
        }
        if file.named or network_kind(file.path) != "onnx":
            fields.pop("output", None)  # of what PyTorch runs, the feature alone was written
        copied = default_recipe(copy, fields)
        both = {"source": Extractor(file, recipe, **run), "copy": Extractor(copy, copied, **run)}
        distance = deviation(both["copy"](sample), both["source"](sample))
        if pruned is None:
            _check_deviation(file, flags, distance)
        measured = {name: accuracy(made, *sides) for name, made in both.items()} if sides else None
        figures = figures_of(measured)
        check_loss(flags, figures)
        rate = {
            "source": _speed(file, recipe, run),
            "copy": _speed(copy, copied, run),
        }
        head = _mark(made) + "\n"
        made.with_suffix(".toml").write_text(head + _toml(fields), encoding="utf-8")
        # Move the network last: once it is there, the files that go with it are there too, and the
        # recipe names it.
        out.unlink(missing_ok=True)
        for each in sorted(folder.iterdir(), key=lambda path: path == made):
            each.replace(out.with_name(each.name))
    return {
        "model": file.given[0],
        "out": str(out),
        "kind": flags.to,
        "quantized": flags.quantize is not None,
        "file_bytes": sum(each.stat().st_size for each in copy_files(out)),
        "recipe_file": str(out.with_suffix(".toml")),
        "fingerprint": copied.fingerprint,
        "source_fingerprint": recipe.fingerprint,
        "crops": len(sample),
        "deviation": distance,
        "speeds": rate,
        "pruned": None if pruned is None else dataclasses.asdict(pruned),
        **figures,
    }


def figures_of(measured: dict[str, NDArray[np.float64]] | None) -> dict[str, Any]:
    """mAP and rank-1 of source and copy, and the intervals of the copy's losses or gains.

    Both networks rank for the same queries, so the difference is taken query by query.
    """
    if measured is None:
        return {"accuracy": None, "differences": None, "queries": 0}
    gained = intervals(measured["copy"] - measured["source"], Bootstrap())
    return {
        "accuracy": {
            name: dict(zip(_NAMES, values.mean(axis=1).tolist(), strict=True))
            for name, values in measured.items()
        },
        "differences": {
            name: (float(low), float(high))
            for name, (low, high) in zip(_NAMES, gained, strict=True)
        },
        "queries": measured["source"].shape[1],
    }


@contextlib.contextmanager
def _report_full_disk(out: Path) -> Iterator[None]:
    """Report a full disk as a RunError that names the file.

    The exporters report a full disk in words of their own, as they do for a network that they
    cannot write.
    """
    try:
        with name_write_errors(out):
            yield
    except InputError as error:
        if shutil.disk_usage(out.absolute().parent).free > _LEAST_ROOM:
            raise
        raise RunError(
            f"{error}; no space is left for {out}: free some, and run the same command again"
        ) from error


def _check_deviation(file: NetworkFile, flags: ExportSettings, distance: float) -> None:
    """Refuse a copy whose features are too far from the source's on this machine."""
    allowed = int8.INT8_DEVIATION if flags.quantize else DEVIATION
    if distance <= allowed:
        return
    kind, hint = f"{flags.to}", ""
    if flags.quantize:
        kind, hint = f"{flags.to} in int8", " (a larger `sample` of typical crops may help)"
    raise InputError(
        f"{file.path}: as {kind} its features differ by {distance:.1e} in cosine distance, and "
        f"{allowed:.0e} is allowed{hint}; nothing was written"
    )


@contextlib.contextmanager
def _hidden_folder(out: Path) -> Iterator[Path]:
    """An empty folder beside the copy, to make it in; deletes what a killed run left there."""
    folder = out.with_name(f".{out.name}.tmp")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def copy_files(out: Path) -> list[Path]:
    """The files of an exported network: one, or two of an OpenVINO IR."""
    weights = out.with_suffix(".bin")
    return [out, weights] if out.suffix == COPY_SUFFIXES["openvino"] else [out]


def _checked(flags: ExportSettings) -> Path:
    if flags.to is None or flags.out is None:
        raise InputError("an export needs `to` (onnx, openvino or torchscript) and `out`")
    if flags.out.suffix != COPY_SUFFIXES[flags.to]:
        raise InputError(
            f"`out` {flags.out}: `to` {flags.to} writes {COPY_SUFFIXES[flags.to]} files"
        )
    if not os.path.isdir(flags.out.absolute().parent):  # noqa: PTH112 - never raises
        raise InputError(f"`out` {flags.out}: {flags.out.parent} does not exist; create it first")
    _check_replaceable(flags.out)
    if flags.sample_size < 1:
        raise InputError(f"`sample_size` must be at least 1, not {flags.sample_size}")
    if flags.quantize and flags.to == "torchscript":
        raise InputError("`quantize` int8 writes onnx or openvino, not torchscript")
    if flags.quantize and flags.sample is None:
        raise InputError("`quantize` int8 needs `sample`: crops of your own to calibrate with")
    check_pruning(flags)
    if (flags.query is None) != (flags.gallery is None):
        raise InputError("`query` and `gallery` go together")
    if flags.query is not None and flags.layout == "none":
        raise InputError(
            "`query` and `gallery` need a `layout` that reads identities, such as market1501"
        )
    return flags.out


def _check_replaceable(out: Path) -> None:
    """Raise InputError if the copy or its recipe would replace a file that no export wrote; the
    recipe of a copy has the copy's checksum.
    """
    recipe = out.with_suffix(".toml")

    def is_copy(_: Path) -> bool:
        mark = _mark(out) if out.exists() else _MARK  # gone where a run was killed
        return has_mark(recipe, mark.encode())

    check_new_file(recipe, "out", lambda path: has_mark(path, _MARK.encode()))
    for each in copy_files(out):
        check_new_file(each, "out", is_copy)


def _mark(out: Path) -> str:
    """The first line of the recipe beside a copy."""
    with out.open("rb") as file:
        return f"{_MARK} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _quantized(
    file: NetworkFile, recipe: Recipe, sample: Crops, made: Path, flags: ExportSettings
) -> None:
    size = recipe.height, recipe.width
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(file.path)
        if file.named or network_kind(file.path) != "onnx":
            whole = Path(folder, "float32.onnx")
            export_network(file, size, "onnx", whole)
        eighth = Path(folder, "int8.onnx") if flags.to == "openvino" else made
        int8.quantize_network(whole, eighth, _batches(sample, recipe))
        if flags.to == "openvino":
            export_network(NetworkFile(str(eighth)), size, "openvino", made)


def _batches(sample: Crops, recipe: Recipe) -> Iterator[NDArray[np.float32]]:
    """The crops one by one: the calibration takes batches of one size only."""
    for crop in sample:
        pixels = fill_batch(empty_batch(1, (recipe.height, recipe.width)), [crop], recipe)
        yield standardize(pixels, recipe)


def _speed(file: NetworkFile, recipe: Recipe, run: dict[str, Any]) -> float:
    size = recipe.height, recipe.width
    network = open_network(file, size=size, output=recipe.output, **run)
    return crops_per_second(network, size, run["batch_size"])


def _toml(fields: dict[str, Any]) -> str:
    """Recipe fields as TOML, which `--recipe` reads."""

    def toml_value(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return f'"{value}"'
        return f"[{', '.join(map(repr, value))}]" if isinstance(value, tuple) else repr(value)

    given = {name: value for name, value in fields.items() if value is not None}
    return "".join(f"{name} = {toml_value(value)}\n" for name, value in given.items())
