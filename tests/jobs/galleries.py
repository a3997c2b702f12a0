"""What verbs that write are tried on."""

from jobs import cli
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import SIZE
from tests.stages.making import save_network, save_source


def galleries_and_network(place):
    """Galleries p (of labeled features) and g (of crops), a network, and an export of p."""
    features, identity, camera = people(6, 60, dimension=8)
    labeled_gallery(place / "p", features, identity, camera)
    source, network = save_source(place / "source", 12), save_network(place).path
    extracting = ("extract", source, "--gallery", place / "g", "--model", network, *SIZE)
    assert cli.main([*map(str, extracting)]) == 0
    assert cli.main([*map(str, ("export", "--gallery", place / "p", "--out", place / "e"))]) == 0
    return place
