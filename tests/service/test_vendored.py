"""What the page holds of others: known by its hash, licensed, and asking no other host."""

import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "pipeline/service/page"
VENDOR = PAGE / "vendor"
LOCK = json.loads((VENDOR / "vendor.lock.json").read_text())
SERVED = sorted(path for path in PAGE.rglob("*") if path.suffix in (".html", ".css", ".js", ".svg"))
KINDS = {"MIT", "Apache-2.0"}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("entry", LOCK["files"], ids=lambda each: each["file"])
def test_a_vendored_file_is_what_the_lock_says(entry: dict[str, Any]) -> None:
    assert _hash(VENDOR / entry["file"]) == entry["sha256"]
    for package in entry["packages"]:
        assert package["license"] in KINDS
        assert _hash(VENDOR / package["license_file"]) == package["license_sha256"]


def test_nothing_is_vendored_outside_the_lock() -> None:
    names = {each["file"] for each in LOCK["files"]}
    names |= {package["license_file"] for each in LOCK["files"] for package in each["packages"]}
    found = {path.name for path in VENDOR.iterdir() if not path.name.endswith(".d.ts")}
    assert found == names | {"vendor.lock.json"}


@pytest.mark.parametrize("path", SERVED, ids=lambda path: path.relative_to(PAGE).as_posix())
def test_no_file_names_another_host(path: Path) -> None:
    # The addresses of w3.org are names of XML vocabularies, which no browser asks for.
    named = set(re.findall(r"\b(?:https?|wss?)://[\w.-]*", path.read_text()))
    assert {name for name in named if name != "http://www.w3.org"} == set()
    assert not re.search(r"[\"'(]//\w", path.read_text())


@pytest.mark.parametrize("path", SERVED, ids=lambda path: path.relative_to(PAGE).as_posix())
def test_no_file_needs_a_weaker_policy(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\beval\(|\bnew Function\b|\bFunction\(|javascript:", text)
    if path.suffix == ".html":
        assert (
            "style=" not in text
            and "<style" not in text
            and " on" not in re.sub(r">[^<]*<", "><", text)
        )
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    if VENDOR not in path.parents:
        assert "innerHTML" not in text and "outerHTML" not in text
        assert "insertAdjacentHTML" not in text


def test_the_page_is_small() -> None:
    sizes = [len(gzip.compress(path.read_bytes(), 9, mtime=0)) for path in SERVED]
    assert sum(sizes) < 300_000


def test_modules_are_short() -> None:
    own = [path for path in SERVED if VENDOR not in path.parents and path.suffix == ".js"]
    assert {
        path.name: lines for path in own if (lines := len(path.read_text().splitlines())) > 300
    } == {}


def test_the_lock_of_packages_names_hashes_and_no_registry() -> None:
    packages = json.loads((Path(__file__).parent / "node/package-lock.json").read_text())[
        "packages"
    ]
    installed = {name: about for name, about in packages.items() if name}
    assert all("integrity" in about for about in installed.values())
    assert not any("resolved" in about for about in installed.values())
    for entry in LOCK["files"]:
        for package in entry["packages"]:
            assert installed[f"node_modules/{package['name']}"]["version"] == package["version"]
