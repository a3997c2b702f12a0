"""A Ray cluster of its own for each module of tests, with more CPUs and GPUs than there are."""

import logging

import pytest
import ray

from cluster.connect import WORKER_ENVIRONMENT


@pytest.fixture(scope="module")
def cluster():
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=2,  # logical ones: Ray counts them, and nothing uses them
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=256 * 2**20,
        runtime_env={"env_vars": WORKER_ENVIRONMENT},
    )
    yield
    ray.shutdown()
