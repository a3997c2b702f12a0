"""The deployment files are what Ray and KubeRay take, and agree with the code and with
requirements.lock."""

import copy
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
from tests.cluster import operator_rules

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster"
LAUNCHERS = [FOLDER / "ray-cluster.yaml", FOLDER / "ray-cluster-aws.yaml"]
KUBERAY = FOLDER / "kuberay.yaml"
VALUES = FOLDER / "kuberay-values.yaml"
DOCKERFILE = FOLDER / "Dockerfile"
FACTS = json.loads((Path(__file__).parent / "kuberay_facts.json").read_text())
LOCKED = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
VERSION = re.search(r'^version = "(\S+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
RAY_CLUSTER, RAY_JOB = "RayCluster", "RayJob"


@pytest.fixture
def kinds() -> dict[str, Any]:
    """The documents of the file for Kubernetes, by kind; a test may change them."""
    return {each["kind"]: each for each in yaml.safe_load_all(KUBERAY.read_text())}


def groups(kinds: dict[str, Any]) -> list[dict[str, Any]]:
    spec = kinds[RAY_CLUSTER]["spec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def check_schema(kinds: dict[str, Any]) -> None:
    for kind in (RAY_CLUSTER, RAY_JOB):
        jsonschema.validate(kinds[kind]["spec"], FACTS[kind])


def refusals(kinds: dict[str, Any]) -> list[str]:
    cluster, job = kinds[RAY_CLUSTER], kinds[RAY_JOB]
    return [
        *operator_rules.of_metadata(cluster["metadata"]),
        *operator_rules.of_metadata(job["metadata"]),
        *operator_rules.of_cluster(cluster["spec"]),
        *operator_rules.of_job(job["spec"]),
    ]


@pytest.mark.parametrize("file", LAUNCHERS, ids=lambda file: file.name)
class TestLauncher:
    def test_file_is_what_ray_takes(self, file: Path) -> None:
        path = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
        jsonschema.validate(yaml.safe_load(file.read_text()), json.loads(path.read_text()))

    def test_tokens_are_on_and_the_dashboard_is_not_seen_outside(self, file: Path) -> None:
        config = yaml.safe_load(file.read_text())
        starts = [
            command
            for side in ("head", "worker")
            for command in config[f"{side}_start_ray_commands"]
            if "ray start" in command
        ]
        assert len(starts) == 2
        assert all("export RAY_AUTH_MODE=token &&" in command for command in starts)
        assert any(name.endswith("/.ray/auth_token") for name in config["file_mounts"])
        head = starts[0].partition("ray start ")[2].split()
        assert {"--head", "--dashboard-host=127.0.0.1", "--num-cpus=0"} <= set(head)

    def test_commands_parse(self, file: Path) -> None:
        documented = re.findall(
            r"regallery (submit --profile (\S+)) -- (.+)$", file.read_text(), re.M
        )
        ((submit, profile, verb),) = documented
        assert parse([*shlex.split(submit), "--", *shlex.split(verb)]).verb == "submit"
        assert parse(shlex.split(verb)).verb == "info"
        assert (ROOT / profile).exists()


def test_own_machines_are_as_many_as_may_join_and_set_up_as_the_makefile_does() -> None:
    config = yaml.safe_load(LAUNCHERS[0].read_text())
    assert len(config["provider"]["worker_ips"]) == config["max_workers"]
    (command,) = config["setup_commands"]
    assert command.endswith("make setup")
    assert re.search(r"^setup:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {".git", ".env", "*.pem"} <= set(config["rsync_exclude"])


def test_machines_of_the_cloud_come_in_groups() -> None:
    config = yaml.safe_load(LAUNCHERS[1].read_text())
    kinds_of = config["available_node_types"]
    assert kinds_of[config["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    workers = {name: kind for name, kind in kinds_of.items() if name != config["head_node_type"]}
    assert set(workers) == {"cpu", "gpu"}
    assert sum(kind["max_workers"] for kind in workers.values()) == config["max_workers"]
    assert all("IamInstanceProfile" in kind["node_config"] for kind in kinds_of.values())


def test_kubernetes_takes_the_file(kinds: dict[str, Any]) -> None:
    assert set(kinds) == {"PersistentVolumeClaim", RAY_CLUSTER, RAY_JOB}
    assert {kinds[each]["apiVersion"] for each in (RAY_CLUSTER, RAY_JOB)} == {"ray.io/v1"}
    check_schema(kinds)
    assert refusals(kinds) == []


def broken(kinds: dict[str, Any], *path: Any, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(kinds)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


GROUP = (RAY_CLUSTER, "spec", "workerGroupSpecs", 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((RAY_CLUSTER, "spec", "authOption"), {"mode": "token"}),
        ((RAY_CLUSTER, "spec", "authOptions", "mode"), "tokens"),
        ((RAY_CLUSTER, "spec", "autoscalerOptions", "version"), "v3"),
        ((*GROUP, "minReplica"), 1),
        ((*GROUP, "replicas"), "2"),
        ((*GROUP, "template", "spec", "volumes", 0, "claim"), "x"),
        ((RAY_JOB, "spec", "backOffLimit"), 1),
        ((RAY_JOB, "spec", "entrypoint"), ["regallery"]),
    ],
)
def test_the_schema_finds_what_it_should(
    kinds: dict[str, Any], path: tuple[Any, ...], value: Any
) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check_schema(broken(kinds, *path, value=value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((RAY_JOB, "spec", "backoffLimit"), 2, "backoffLimit goes with a cluster of its own only"),
        ((RAY_JOB, "spec", "backoffLimit"), -1, "backoffLimit is negative"),
        ((RAY_JOB, "spec", "clusterSelector"), {}, "neither a cluster of its own"),
        ((RAY_JOB, "spec", "clusterSelector"), {"x": "y"}, "has no name"),
        ((RAY_JOB, "spec", "submissionMode"), "SidecarMode", "SidecarMode"),
        ((RAY_JOB, "spec", "suspend"), True, "suspended"),
        ((RAY_JOB, "spec", "activeDeadlineSeconds"), 0, "not positive"),
        ((RAY_JOB, "metadata", "name"), "Extract", "no DNS label"),
        ((RAY_CLUSTER, "metadata", "name"), "r" * 60, "too long"),
        ((RAY_CLUSTER, "spec", "rayVersion"), "2.51.0", "tokens need"),
        ((*GROUP, "minReplicas"), 9, "no range"),
        ((*GROUP, "resources"), {"CPU": "1"}, ""),
        ((*GROUP, "rayStartParams"), {"labels": "a=b"}, "labels"),
        ((*GROUP, "rayStartParams"), {"num-cpus": 4}, "not text"),
        ((*GROUP, "template", "spec", "restartPolicy"), "Always", "autoscaler v2"),
    ],
)
def test_the_rules_find_what_they_should(
    kinds: dict[str, Any], path: tuple[Any, ...], value: Any, message: str
) -> None:
    told = refusals(broken(kinds, *path, value=value))
    if message:
        assert [each for each in told if message in each], told
    else:
        both = broken(
            broken(kinds, *path, value=value), *GROUP, "rayStartParams", value={"memory": "1"}
        )
        assert "cpu has resources twice" in refusals(both)


def test_job_selects_the_cluster_and_finds_what_it_names(kinds: dict[str, Any]) -> None:
    name = kinds[RAY_CLUSTER]["metadata"]["name"]
    job = kinds[RAY_JOB]["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": name}
    claim = kinds["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    mounted = set()
    for group in groups(kinds):
        pod = group["template"]["spec"]
        claims = {
            each["name"]: each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"]
        }
        assert set(claims.values()) == {claim["metadata"]["name"]}
        for container in pod["containers"]:
            paths = {each["mountPath"] for each in container["volumeMounts"]}
            assert {each["name"] for each in container["volumeMounts"]} <= claims.keys()
            mounted |= paths
            local = [word for word in shlex.split(job["entrypoint"]) if word.startswith("/")]
            assert local
            assert [
                word for word in local if not any(word.startswith(f"{p}/") for p in paths)
            ] == []
    assert mounted == {"/mnt/shared"}


def test_the_head_takes_no_work_and_nobody_is_root(kinds: dict[str, Any]) -> None:
    assert groups(kinds)[0]["rayStartParams"]["num-cpus"] == "0"
    for group in groups(kinds):
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
    assert kinds[RAY_CLUSTER]["spec"]["authOptions"] == {"mode": "token"}
    assert kinds[RAY_CLUSTER]["spec"]["enableInTreeAutoscaling"] is True


def test_every_container_reserves_what_it_may_use(kinds: dict[str, Any]) -> None:
    of_gpus = []
    for group in groups(kinds):
        for container in group["template"]["spec"]["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
            if "nvidia.com/gpu" in container["resources"]["limits"]:
                of_gpus.append((group["groupName"], container["image"].rpartition("-")[2]))
    assert of_gpus == [("gpu", "cuda")]
    assert kinds[RAY_CLUSTER]["spec"]["workerGroupSpecs"][0]["minReplicas"] >= 1


def test_versions_are_the_locked_ones(kinds: dict[str, Any]) -> None:
    assert LOCKED
    assert VERSION
    assert kinds[RAY_CLUSTER]["spec"]["rayVersion"] == LOCKED[1]
    assert yaml.safe_load(VALUES.read_text())["head"]["rayVersion"] == LOCKED[1]
    named = {
        version
        for file in (*LAUNCHERS, KUBERAY, VALUES, DOCKERFILE)
        for version in re.findall(r"(?:regallery:|tag: )([\d.]+)-(?:cpu|cuda)", file.read_text())
    }
    assert named == {VERSION[1]}


def test_commands_of_the_file_for_kubernetes_parse(kinds: dict[str, Any]) -> None:
    program, *arguments = shlex.split(kinds[RAY_JOB]["spec"]["entrypoint"])
    assert program == "regallery"
    assert parse(arguments).verb == "extract"
    ((profile, verb),) = re.findall(r"submit --profile (\S+) -- (.+)$", KUBERAY.read_text(), re.M)
    assert (ROOT / profile).exists()
    assert parse(shlex.split(verb)).verb == "info"


def leaves(values: dict[str, Any], known: list[str], path: str = "") -> list[str]:
    """The paths of values that no template reads, of a chart that reads the `known` ones."""
    if path in known:
        return []
    if not isinstance(values, dict):
        return [path]
    return [
        found
        for key, value in values.items()
        for found in leaves(value, known, f"{path}.{key}".lstrip("."))
    ]


def test_the_chart_reads_every_value() -> None:
    values, chart = yaml.safe_load(VALUES.read_text()), FACTS["chart"]
    more = values.pop("additionalWorkerGroups")
    assert (
        leaves(values, [name for name in chart["values"] if name not in ("head", "worker")]) == []
    )
    for group in more.values():
        assert set(group) <= set(chart["group"])
    assert leaves({"worker": {"replica": 1}}, chart["values"]) == ["worker.replica"]


def test_the_chart_makes_the_same_cluster(kinds: dict[str, Any]) -> None:
    values = yaml.safe_load(VALUES.read_text())
    head, cpu, gpu = groups(kinds)
    pairs = (
        (head, values["head"]), (cpu, values["worker"]),
        (gpu, values["additionalWorkerGroups"]["gpu"]),
    )  # fmt: skip
    for group, told in pairs:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert told["resources"] == container["resources"]
        assert told["volumes"] == pod["volumes"]
        assert told["volumeMounts"] == container["volumeMounts"]
        assert told["podSecurityContext"] == pod["securityContext"]
        image = {**values["image"], **told.get("image", {})}
        assert f"{image['repository']}:{image['tag']}" == container["image"]
        for name in ("minReplicas", "replicas", "maxReplicas"):
            assert told.get(name) == group.get(name)
    assert values["head"]["rayStartParams"] == head["rayStartParams"]
    environment = {each["name"]: each for each in values["common"]["containerEnv"]}
    assert environment["RAY_AUTH_MODE"]["value"] == "token"
    assert "secretKeyRef" in environment["RAY_AUTH_TOKEN"]["valueFrom"]


class TestImage:
    text = DOCKERFILE.read_text()
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]

    def stage(self, name: str) -> str:
        return next(each for each in self.stages if each.split("\n")[0].endswith(f" AS {name}"))

    @pytest.mark.parametrize("target", ["cpu", "cuda"])
    def test_what_is_shipped_has_no_compiler_stage_and_no_root(self, target: str) -> None:
        stage = self.stage(target)
        assert stage.startswith("run AS ")
        assert f"COPY --from=build-{target} " in stage
        assert re.findall(r"^USER (.+)$", stage, re.MULTILINE) == ["1000"]
        assert "pip install" not in stage + self.stage("run")

    def test_everything_that_is_copied_exists_and_is_not_ignored(self) -> None:
        copied = {
            name
            for line in re.findall(r"^COPY (?!--from)(.+) \S+$", self.text, re.MULTILINE)
            for name in line.split()
        }
        assert {"requirements.lock", "pipeline", "cluster", "jobs"} <= copied
        assert [name for name in copied if not (ROOT / name).exists()] == []
        sent = (ROOT / ".dockerignore").read_text().split()
        assert copied <= {name.removeprefix("!") for name in sent if name.startswith("!")}
        assert "*" in sent
        assert {"**/.*", "**/*.pem", "**/id_*"} <= set(sent)

    def test_python_is_the_projects(self) -> None:
        bases = {each.split()[0] for each in self.stages}
        wanted = re.search(r'requires-python = ">=(3\.\d+)"', (ROOT / "pyproject.toml").read_text())
        assert wanted
        assert {base for base in bases if ":" in base} == {f"python:{wanted[1]}-slim-bookworm"}

    def test_the_lock_has_lines_for_both_targets(self) -> None:
        lock = (ROOT / "requirements.lock").read_text()
        assert re.search(r"^torch==.*machine != 'aarch64'", lock, re.MULTILINE)
        assert re.search(r"^(nvidia|cuda|triton)[-=]", lock, re.MULTILINE)
