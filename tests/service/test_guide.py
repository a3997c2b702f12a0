"""The examples of the operator's guide, run as they stand against a real service."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from jobs import cli
from pipeline.model.networks import NetworkFile
from pipeline.service.embedding import Embedder
from pipeline.service.shelf import Shelf
from tests.jobs.running import SIZE
from tests.service.asking import BEARER, TOKEN, computed
from tests.service.listening import listening_service
from tests.stages.making import save_network, save_source

GUIDE = Path(__file__).parents[2] / "docs" / "service.md"
ENDLESS = "/v1/events"


def examples():
    """The shell blocks that ask the service, by their heading."""
    sections = re.split(r"^#+ (.+)$", GUIDE.read_text(), flags=re.MULTILINE)
    for title, text in zip(sections[1::2], sections[2::2], strict=True):
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if re.search(r"^(ask|alias) ", block, re.MULTILINE):
                yield title, block


def test_there_are_examples():
    titles = [title for title, _ in examples()]
    assert {"Requests", "Searches", "Verdicts", "Erasures", "Jobs and events"} <= set(titles)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.slow
def test_the_examples_of_the_guide_are_answered(tmp_path):
    network = save_network(tmp_path).path
    source = save_source(tmp_path / "crops", 50)
    arguments = ("extract", source, "--gallery", tmp_path / "test", "--model", network, *SIZE)
    assert cli.main([*map(str, arguments)]) == 0
    shutil.copy(min(source.iterdir()), tmp_path / "crop.jpg")
    (tmp_path / "token").write_text(TOKEN)
    shelf, embedder = Shelf([str(tmp_path / "test")]), Embedder(NetworkFile(network))
    with listening_service(shelf, network=embedder, allow_verdicts=True, allow_erase=True) as port:
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, headers=BEARER) as asked:
            job = asked.get("/v1/galleries/test/review").json()["job"]
            for name in ("review", "points"):
                computed(asked, f"/v1/galleries/test/{name}")
        lines = ["set -e", "shopt -s expand_aliases", f"JOB={job}"]
        for _, block in examples():
            lines += [line for line in block.splitlines() if ENDLESS not in line]
        script = "\n".join(lines).replace("http://127.0.0.1:8765", address)
        script = script.replace("curl -s ", "curl -sS --fail-with-body ")
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert (tmp_path / "points.bin").read_bytes()[:8] == b"RGPTS001"
    assert (tmp_path / "frame.jpg").read_bytes()[:2] == b"\xff\xd8"
