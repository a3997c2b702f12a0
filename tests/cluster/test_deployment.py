"""The deployment files are what Ray takes, and agree with the code and with requirements.lock."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from jobs.cli import parse

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "cluster" / "ray-cluster.yaml"
KUBERAY = ROOT / "cluster" / "kuberay.yaml"
LOCKED = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def kinds() -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(KUBERAY.read_text())}


def test_launcher_file_is_what_ray_takes() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    config = yaml.safe_load(LAUNCHER.read_text())
    jsonschema.validate(config, schema)
    assert len(config["provider"]["worker_ips"]) == config["max_workers"]


def test_launcher_sets_up_as_the_makefile_does() -> None:
    (command,) = yaml.safe_load(LAUNCHER.read_text())["setup_commands"]
    assert command.endswith("make setup")
    assert re.search(r"^setup:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_job_selects_the_cluster(kinds: dict[str, Any]) -> None:
    assert set(kinds) == {"RayCluster", "RayJob"}
    assert {each["apiVersion"] for each in kinds.values()} == {"ray.io/v1"}
    name = kinds["RayCluster"]["metadata"]["name"]
    assert kinds["RayJob"]["spec"]["clusterSelector"] == {"ray.io/cluster": name}


def test_every_container_reserves_what_it_may_use(kinds: dict[str, Any]) -> None:
    spec = kinds["RayCluster"]["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        for container in group["template"]["spec"]["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
    for group in spec["workerGroupSpecs"]:
        assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_versions_are_the_locked_ones(kinds: dict[str, Any]) -> None:
    assert LOCKED is not None
    assert kinds["RayCluster"]["spec"]["rayVersion"] == LOCKED[1]
    assert f"rayproject/ray:{LOCKED[1]}-py311" in KUBERAY.read_text()


def test_commands_of_both_files_parse(kinds: dict[str, Any]) -> None:
    program, *arguments = shlex.split(kinds["RayJob"]["spec"]["entrypoint"])
    assert program == "regallery"
    assert parse(arguments).verb == "extract"
    documented = re.findall(r"regallery (submit --address \S+) --", LAUNCHER.read_text())
    assert [parse([*shlex.split(each), "--", "info"]).verb for each in documented] == ["submit"]
