"""The Grafana dashboard is a model that Grafana takes; it queries what is counted, nothing else."""

import json
import re
from pathlib import Path

from pipeline.stages.metrics import METRICS, STEPS

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "cluster" / "grafana-dashboard.json").read_text())
PAGE = (ROOT / "docs" / "operations.md").read_text()


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_every_metric_is_shown_and_no_other() -> None:
    shown = {name for query in queries() for name in re.findall(r"\bray_(\w+)_total\b", query)}
    assert shown == set(METRICS)
    assert not [query for query in queries() if "regallery" in re.sub(r"ray_\w+_total", "", query)]


def test_every_metric_is_documented_and_no_other() -> None:
    table = PAGE.split("| metric |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(METRICS)
    (seconds,) = [line for line in table.splitlines() if "regallery_seconds" in line]
    assert re.findall(r"`(\w+)`", seconds)[2:] == list(STEPS)


def test_queries_are_balanced_and_have_a_legend() -> None:
    for query in queries():
        for opening, closing in ("()", "[]", "{}"):
            assert query.count(opening) == query.count(closing), query
    for panel in DASHBOARD["panels"]:
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names)
        assert all(target["legendFormat"] for target in panel["targets"])


def test_the_model_has_what_grafana_needs() -> None:
    assert DASHBOARD["title"]
    assert re.fullmatch(r"[\w-]{1,40}", DASHBOARD["uid"])
    assert DASHBOARD["schemaVersion"] >= 36
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    source = {"type": "prometheus", "uid": f"${{{variable['name']}}}"}
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken = set()
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken
        taken |= cells
