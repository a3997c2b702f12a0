"""The files that a submitted job brings to the cluster: this code, and the dependencies that it
needs.

Only source files are sent, by an explicit list. Everything else in a checkout (data, keys, a
`.env`, the history) stays here, because everybody who can reach the dashboard can read the sent
files.
"""

import contextlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from pipeline.errors import RunError

CONFIG = "config.toml"
"""The name of the configuration file in the uploaded folder."""

_PACKAGES = ("pipeline", "cluster", "jobs")
_CODE = frozenset({".py", ".html", ".css", ".js", ".mjs"})
_ALSO = frozenset({"py.typed", "demo.onnx"})


@contextlib.contextmanager
def job_folder(config: Path | None) -> Iterator[Path]:
    """Copy this code, wherever it is installed, and the configuration into one folder to upload."""
    with tempfile.TemporaryDirectory(prefix="regallery-") as name:
        folder = Path(name)
        for package in _PACKAGES:
            spec = importlib.util.find_spec(package)
            if spec is None or spec.origin is None:
                raise RunError(
                    f"the package {package} is not installed as files, so cannot be sent"
                )
            source = Path(spec.origin).parent
            shutil.copytree(source, folder / package, ignore=_not_code)
        # The job needs this to know its version, too.
        described = folder / "regallery.dist-info"
        described.mkdir()
        version = metadata.version("regallery")
        (described / "METADATA").write_text(f"Name: regallery\nVersion: {version}\n")
        if config is not None:
            shutil.copyfile(config, folder / CONFIG)
        yield folder


def _not_code(folder: str, names: list[str]) -> set[str]:
    """The names in a folder that are not sent. A link may lead anywhere, so none is followed."""
    left = set()
    for name in names:
        path = Path(folder) / name
        is_code = path.suffix in _CODE or name in _ALSO or path.is_dir()
        if name.startswith((".", "__pycache__")) or path.is_symlink() or not is_code:
            left.add(name)
    return left


def requirements() -> tuple[str, ...]:
    """The dependencies of this project, without Ray, which the cluster has."""
    return tuple(
        requirement
        for requirement in metadata.requires("regallery") or ()
        if "extra ==" not in requirement and not requirement.startswith("ray[")
    )
