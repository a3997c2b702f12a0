"""What the tests of extraction share; each has a `source` of its own."""

import pytest

from tests.jobs.running import SIZE
from tests.stages.making import save_network


@pytest.fixture
def command(tmp_path, source):
    network = save_network(tmp_path).path
    return ("extract", source, "--gallery", tmp_path / "gallery", "--model", network, *SIZE)
