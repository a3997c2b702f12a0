"""What a job brings along: the code, and nothing else that lies in a checkout."""

import shutil
import zipfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray._private.runtime_env.packaging import create_package

from cluster import job_code
from cluster.job_code import job_folder, requirements
from pipeline.errors import RunError

ROOT = Path(__file__).parents[2]
SECRET = bytes(range(33, 65))[::-1]  # which stands nowhere else
PLANTED = (
    ".env", "server.pem", "id_rsa", "id_ed25519", ".aws/credentials", ".git/config", ".netrc",
    "credentials.json", "secrets.toml", "token", "features.npy", "rows.parquet", "model.pth",
    "crops/0001.jpg", "deep/er/.env", "weights.onnx", ".ssh/x.py", "notes.txt", "kube.config",
)  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this code, in which data and secrets lie about."""
    place = tmp_path / "checkout"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keys.py").write_bytes(SECRET)
    for package in ("pipeline", "cluster", "jobs"):
        shutil.copytree(ROOT / package, place / package)
        for name in PLANTED:
            file = place / package / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(SECRET)
        (place / package / "linked.py").symlink_to(outside / "keys.py")
        (place / package / "folder").symlink_to(outside)
    with (place / "jobs" / "large.bin").open("wb") as file:
        file.truncate(200 << 20)

    def found(package: str) -> SimpleNamespace:
        return SimpleNamespace(origin=str(place / package / "__init__.py"))

    monkeypatch.setattr(job_code.importlib.util, "find_spec", found)
    return place


def packed(folder: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of the package that Ray would upload."""
    package = tmp_path / "package.zip"
    create_package(str(folder), package, include_gitignore=True)
    with zipfile.ZipFile(package) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}


def test_the_package_holds_the_code_and_nothing_that_was_planted(
    checkout: Path, tmp_path: Path
) -> None:
    config = tmp_path / "settings of mine.toml"
    config.write_text("flip = true\n")
    with job_folder(config) as folder:
        sent = packed(folder, tmp_path)
        (described,) = metadata.distributions(path=[str(folder)])
        assert (described.name, described.version) == ("regallery", metadata.version("regallery"))
    assert [name for name, content in sent.items() if SECRET in content] == []
    assert sum(map(len, sent.values())) < 20 << 20
    code = {
        str(path.relative_to(ROOT))
        for package in ("pipeline", "cluster", "jobs")
        for path in (ROOT / package).rglob("*.py")
    }
    assert code <= sent.keys()
    others = {name for name in sent if not name.endswith((".py", ".js", ".mjs", ".css", ".html"))}
    assert others == {
        "config.toml", "pipeline/py.typed", "jobs/demo_network/demo.onnx",
        "regallery.dist-info/METADATA",
    }  # fmt: skip
    assert sent["config.toml"] == b"flip = true\n"


def test_code_that_is_not_installed_as_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_code.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(RunError, match="pipeline is not installed as files"), job_folder(None):
        pass


def test_the_cluster_brings_ray_itself() -> None:
    names = requirements()
    assert any(name.startswith("deltalake") for name in names)
    assert [name for name in names if name.startswith("ray") or "extra" in name] == []
