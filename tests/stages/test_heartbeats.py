import pytest

from pipeline.stages import heartbeats
from pipeline.stages.heartbeats import Heartbeat, actor_progress
from tests.stages.making import prepared, save_source


@pytest.mark.ray
def test_steps_follow_actors_and_add_up_to_what_ended(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(heartbeats, "_SECONDS", 0.0)
    _, units, _ = prepared(tmp_path, save_source(tmp_path / "source", 40))
    steps = []
    with actor_progress(steps.append) as found:
        found.begin(units)
        beat = Heartbeat(units[0].id)
        for images in (4, 4, 4):
            beat(images)
        found.listen()
        assert sum(steps) == 12
        found.end(units[0].id, 16)
        assert sum(steps) == 16
        Heartbeat(units[1].id)(8)
        found.listen()
        found.end(units[1].id, 0)  # given up
        assert sum(steps) == 16
        found.end(units[2].id, 8)  # never heard of
        assert sum(steps) == 24
