"""Images that kill the process that reads them, on a Ray cluster that is set up for it."""

import os
import signal

import pytest
import ray

from pipeline.stages import extract as stage
from pipeline.stages.extract import extract_on_ray
from tests.stages.making import prepared, save_source


def _hook():
    """What every worker runs as it starts; a nested function, so that Ray sends its code along."""

    def kill_over_one_image():
        read = stage.read_image

        def deadly(root, path):
            if path.startswith("0002_c2s1_000001"):
                os.kill(os.getpid(), signal.SIGKILL)
            return read(root, path)

        stage.read_image = deadly
        stage.ATTEMPTS = 1  # every death costs seconds: a new worker loads torch again

    return kill_over_one_image


@pytest.mark.ray
@pytest.mark.slow
def test_an_image_that_kills_its_worker_becomes_a_reject(tmp_path):
    source = save_source(tmp_path / "source", 4)
    gallery, units, work = prepared(tmp_path, source, unit_size=2)
    environment = {"worker_process_setup_hook": _hook()}
    ray.init("local", num_cpus=2, include_dashboard=False, runtime_env=environment)
    try:
        records = list(extract_on_ray(units, work, actors=2))
    finally:
        ray.shutdown()
    after = gallery.commit(records, run_id="run")
    assert after.rows()["row_id"].to_pylist() == [0, 2, 3]
    (told,) = after.rejects().to_pylist()
    assert (told["path"], told["reason"]) == ("0002_c2s1_000001_00.png", "kills-worker")
