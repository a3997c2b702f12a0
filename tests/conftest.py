"""Fixtures that every room's tests share."""

import builtins
import gc
import logging
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# How often a process asks whether the head of its cluster is there, once a second: a machine that
# does much else needs longer than Ray's 20. Ray reads it as it is loaded.
os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "300")
# PyTorch's threads spin while they wait for each other, and take processors from other tests: that
# was half of the time of a test that runs networks. OpenMP reads it as it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The processes that tests start find what they run first there.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).with_name("children")), *filter(None, [os.environ.get("PYTHONPATH")])]
)

import ray
from hypothesis import settings

from cluster.connect import WORKER_ENVIRONMENT, variables_set
from tests.azure_store import CONTAINER, azure_store
from tests.compiling import compile_once, rewrite_a_share
from tests.head_node import HeadNode, head_node
from tests.object_store import ObjectStore, object_store
from tests.scheduling import Groups, group_of

# Until all tests are collected, there is nothing to find: see `pytest_collection_finish`.
gc.disable()

# A shell ignores it for what it runs in the background; tests that interrupt a command need it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The first example of a test may compile its kernels: time says nothing about correctness. Examples
# are the same in every run, so that a test that fails tells of a change; `explore` draws others.
settings.register_profile("regallery", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("regallery")
compile_once()


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Copies and notes that are kept for later runs go into a folder of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


_DOCTESTED = ("pipeline", "cluster", "jobs")
_PRINT = builtins.print
SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {path}, which is not part of the repository")
    return path


@pytest.fixture(scope="session")
def pedestrians() -> Path:
    """Real pedestrian crops: the folders `query` and `bounding_box_test`, Market-1501 names."""
    return _shared("data", "pedestrians")


@pytest.fixture(scope="session")
def pedestrian_video() -> Path:
    """The real video that the crops of `pedestrians` are of, with their boxes."""
    return _shared("data", "video")


@pytest.fixture(scope="session")
def osnet() -> Path:
    """OSNet x0.25 trained on MSMT17, as ONNX: 3 x 256 x 128 RGB to 512."""
    return _shared("models", "osnet_x0_25_msmt17.onnx")


@pytest.fixture(scope="session")
def retail() -> Path:
    """person-reidentification-retail-0288, as OpenVINO IR: 3 x 256 x 128 BGR 0..255 to 256."""
    return _shared("models", "person-reidentification-retail-0288.xml")


@pytest.fixture(scope="session")
def field() -> Path:
    """Situations of the field, a folder each, with what is right in its README.md."""
    return _shared("field")


@pytest.fixture(scope="session")
def s3() -> Iterator[ObjectStore]:
    """A real S3 server on loopback."""
    with object_store() as store:
        yield store


@pytest.fixture(scope="session")
def azure() -> Iterator[dict[str, str]]:
    """The environment of Microsoft's emulator of Azure's storage, on loopback."""
    with azure_store() as environment:
        yield environment


@pytest.fixture
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL below which nothing is, in the bucket of a real S3 server that this process can use.

    With the variable STORE_OF_TESTS=azure, in a container of Azure's emulator.
    """
    if os.environ.get("STORE_OF_TESTS") == "azure":
        root, environment = f"az://{CONTAINER}", request.getfixturevalue("azure")
    else:
        s3: ObjectStore = request.getfixturevalue("s3")
        root, environment = f"s3://{s3.bucket}", s3.environment
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return f"{root}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def cluster_head() -> Iterator[HeadNode]:
    """A Ray cluster of one machine and two CPUs that others started, with its job server."""
    with head_node() as node:
        yield node


@pytest.fixture
def dying_head(cluster_head: HeadNode) -> HeadNode:
    """The same as `cluster_head`, for the one test that ends it, which comes last."""
    return cluster_head


_worn: set[str] = set()
"""The fixtures for which something has run on the cluster that this process has joined."""


@pytest.fixture
def cluster() -> None:
    """A cluster that this process has joined: two CPUs, and GPUs that the machine need not have.

    All tests that use it run one after the other in one process (see `scheduling`), and the last
    one shuts it down: to start a cluster for each file took longer than the tests themselves. A
    worker loads torch before it does anything, so what counts is how many workers are started.
    """
    if not ray.is_initialized():
        _start_cluster()
    _worn.add("cluster")


@pytest.fixture
def new_cluster() -> None:
    """The same as `cluster`, but one on which no test of `cluster` has run yet.

    Such tests come first and share it: each must end all actors that it starts.
    """
    if "cluster" in _worn:
        ray.shutdown()
    if not ray.is_initialized():
        _start_cluster()


def _start_cluster(tries: int = 3) -> None:
    """Try again where Ray gives up: after 30 seconds, which are few on a machine that does much."""
    _worn.clear()
    try:
        with variables_set(WORKER_ENVIRONMENT):
            ray.init(
                address="local",
                num_cpus=2,
                num_gpus=2,  # logical ones: Ray counts them, and nothing uses them
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=256 * 2**20,
                # Ray ends workers beyond one a CPU that were idle for a second, and the next test
                # would start others: a part with a GPU and one without are never of one worker.
                _system_config={"num_workers_soft_limit": 6},
            )
    except Exception as error:
        ray.shutdown()
        if tries == 1 or "timed out during startup" not in str(error):
            raise
        _start_cluster(tries - 1)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    uses, next_uses = (each and group_of(each.nodeid) == "cluster" for each in (item, nextitem))
    if uses and not next_uses:
        ray.shutdown()
        builtins.print = _PRINT  # Ray's progress bars put a function of theirs in its place


class _OnlyExamples:
    """Leave modules without an example alone, in which doctest would look for some.

    It would load each of them in every process, and they are most of our modules.
    """

    @staticmethod
    def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
        """Ignore such a file; of all others pytest decides."""
        ours = any(collection_path.is_relative_to(config.rootpath / top) for top in _DOCTESTED)
        wanted = collection_path.suffix == ".py" and ours
        return True if wanted and b">>> " not in collection_path.read_bytes() else None


def pytest_configure(config: pytest.Config) -> None:
    """Apply `_OnlyExamples` to folders beside this one, too."""
    config.pluginmanager.register(_OnlyExamples())


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Divide the rewriting of assertions between the processes of a run."""
    process = getattr(session.config, "workerinput", None)
    if process is not None:
        number = int(process["workerid"].removeprefix("gw"))
        rewrite_a_share(session.config, number, process["workercount"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of a group together, and groups that take long first."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group_of(item.nodeid), []).append(item)
    groups.get("cluster", []).sort(key=lambda item: not _takes(item, "new_cluster"))
    groups.get("cluster_head", []).sort(key=lambda item: _takes(item, "dying_head"))
    in_turn = sorted(groups.items(), key=lambda group: _turn(*group))
    items[:] = [item for _, group in in_turn for item in group]


def _takes(item: pytest.Item, fixture: str) -> bool:
    return fixture in getattr(item, "fixturenames", ())


def pytest_collection_finish() -> None:
    """Take what is there now from Python's collector, which would walk through it again and again:
    a million objects of modules and tests.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


def _turn(name: str, items: list[pytest.Item]) -> int:
    """Jobs on a head of others come first: they wait much, and what only computes fills the gaps.

    Then comes the core: it compiles what others find in the cache, and Ray's workers with them.
    """
    if name == "cluster_head":
        return 0
    if name.startswith("tests/core/"):
        return 1
    marks = {mark.name for item in items for mark in item.iter_markers()}
    return 2 if "ray" in marks else 3 if "slow" in marks else 4


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal out groups where pytest is asked to deal out files."""
    return Groups(config, log) if config.getvalue("dist") == "loadfile" else None
