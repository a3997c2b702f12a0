"""report.html: what it says, and how."""

import re
from dataclasses import replace

import pytest

from pipeline.core.evaluation.by_camera import CameraFigures, PairFigures
from pipeline.report.figures import percent, points
from pipeline.report.page import render_report
from pipeline.report.results import Protocol, Ranked, Report
from pipeline.report.thumbnails import Thumbnails
from tests.report.changing import changed
from tests.report.elements import Elements


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    """The page of `report` without pictures."""
    return render_report(report)


@pytest.fixture(scope="module")
def illustrated(report: Report, thumbnails: Thumbnails) -> str:
    """The page of `report` with pictures."""
    return render_report(report, thumbnails)


def test_every_figure_stands_in_the_page(report: Report, illustrated: str) -> None:
    page = illustrated
    values = {data["value"] for data in Elements(page).all("data")}
    for result in report.results:
        for share in (
            result.mean_ap,
            result.mean_ap_trapezoid,
            result.mean_inp,
            *result.rank.values(),
        ):
            assert str(share) in values
            if share is not None:
                assert f'<data value="{share}">{percent(share)}</data>' in page
    for entry in report.ranked.worst:
        assert f'<data value="{entry.ap}">{percent(entry.ap, 1)}</data>' in page
        for hit in entry.list:
            assert f">{hit.score:.3f}<" in page


def test_gains_are_signed_and_in_points(page: str) -> None:
    words = Elements(page).words()
    assert "64.4 %" not in words
    for change in (0.0625, -0.03125):
        assert points(change) in words
        assert f"{points(change, 1)} pts" in words
    assert "+6.25" in words
    assert "\u22123.12" in words  # a minus sign, not a hyphen


def test_the_mode_stands_beside_the_numbers(report: Report) -> None:
    report = changed(report, "results", 2, "name", to="expanded")
    page = render_report(report)
    row = next(part for part in page.split("<tr>") if '<th scope="row">expanded' in part)
    assert "<td>joint<small>transductive</small></td>" in row
    assert "expanded (joint)" in Elements(page).words()


def test_re_ranked_lists_are_transductive(reranked: Report) -> None:
    note = "A transductive result uses all queries together"
    page = render_report(reranked)
    row = next(part for part in page.split("<tr>") if '<th scope="row">k-reciprocal' in part)
    assert "<small>transductive</small></td>" in row
    assert page.count(note) == 1
    assert note not in render_report(replace(reranked, results=reranked.results[:2], ranked=None))


def test_a_re_ranked_list_shows_its_distances(reranked: Report) -> None:
    page = render_report(reranked)
    parsed = Elements(page)
    assert "below each crop stand its final distance and camera" in parsed.words()
    assert "score 0.875, distance 0.250, c2/a.jpg" in parsed.all("li")[0]["title"]
    shown = re.findall(r'<span class="score">(.*?)</span>', page)
    assert shown == ["0.250", "0.375", "0.750"] * 3
    test_every_link_within_the_page_leads_somewhere(page)


@pytest.mark.parametrize(
    ("anchor", "word"),
    [
        ("map", "non-interpolated"),
        ("trapezoid", "trapezoid rule"),
        ("cmc", "Cumulative matching characteristic"),
        ("minp", "inverse negative penalty"),
        ("valid", "left out of every mean"),
        ("junk", "identity −1"),  # noqa: RUF001
        ("distractor", "identity 0"),
        ("gain", "percentage points"),
        ("interval", "drawn 1,000 times with replacement"),
        ("cameras", "the rows of one gallery camera only"),
        ("tar", "the share of positives"),
        ("eer", "FAR = 1"),
        ("mode-query", "AQE"),
        ("mode-database", "DBA"),
        ("mode-joint", "transductive"),
    ],
)
def test_every_term_is_defined(page: str, anchor: str, word: str) -> None:
    definition = page.split(f'<div id="def-{anchor}">', 1)[1].split("</div>", 1)[0]
    assert word in definition


def test_every_link_within_the_page_leads_somewhere(page: str) -> None:
    parsed = Elements(page)
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [
        target
        for _, attributes in parsed.elements
        for key in ("href", "xlink:href")
        if (target := attributes.get(key)) and target != "data:,"
    ]
    assert links
    assert {link[1:] for link in links} <= set(ids)
    assert all(link.startswith("#") for link in links)


def test_the_page_reaches_for_nothing(illustrated: str) -> None:
    page = illustrated
    parsed = Elements(page)
    assert not parsed.all("script")
    assert not parsed.all("iframe")
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in parsed.all("img"))
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page


def test_hostile_texts_stay_texts(hostile: Report) -> None:
    parsed = Elements(render_report(hostile))
    assert not parsed.all("script")
    assert not parsed.all("img")
    assert not [key for _, attributes in parsed.elements for key in attributes if key[:2] == "on"]
    assert hostile.ranked.best[0].query.path in parsed.words()


def test_the_same_input_gives_the_same_bytes(
    report: Report, thumbnails: Thumbnails, illustrated: str
) -> None:
    assert illustrated == render_report(replace(report), thumbnails)


def test_one_path_in_query_and_gallery_keeps_two_pictures(
    report: Report, thumbnails: Thumbnails
) -> None:
    report = replace(report, ranked=replace(report.ranked, median=(), worst=()))
    report = changed(report, "ranked", "best", 0, "query", "path", to="c2/a.jpg")
    other = thumbnails.query["c1/best.jpg"]
    page = render_report(report, Thumbnails({"c2/a.jpg": other}, thumbnails.gallery))
    sources = [image["src"] for image in Elements(page).all("img")]
    assert sources == [other, thumbnails.gallery["c2/a.jpg"], thumbnails.gallery["c2/b.jpg"]]


def test_matches_and_misses_differ_by_more_than_color(illustrated: str) -> None:
    items = re.findall(r'<li class="(\w+)"(.*?)</li>', illustrated, flags=re.DOTALL)
    assert [kind for kind, _ in items] == ["match", "miss", "miss"] * 3
    for kind, body in items:
        assert ('href="#tick"' if kind == "match" else 'href="#cross"') in body
        assert ("Match at rank" if kind == "match" else "No match at rank") in body


def test_a_hit_tells_path_camera_and_score(illustrated: str) -> None:
    parsed = Elements(illustrated)
    first = "Match at rank 1: identity 7, camera c2, score 0.875, c2/a.jpg"
    assert parsed.all("li")[0]["title"] == first
    assert first in [image["alt"] for image in parsed.all("img")]
    titles = [item["title"] for item in parsed.all("li")]
    assert "No match at rank 2: distractor, camera c2, score 0.500, c2/b.jpg" in titles
    third = "No match at rank 3: identity unknown, camera unknown, score -0.125, c3/c.jpg"
    assert third in titles


def test_a_missing_thumbnail_leaves_a_placeholder(page: str, illustrated: str) -> None:
    assert illustrated.count('<span class="missing"') == 3
    assert page.count('<span class="missing"') == 12


def test_rejects_and_invalid_queries_are_counted(page: str) -> None:
    words = Elements(page).words()
    assert "Rejects 0 3 not-an-image 0 1 truncated 0 2" in words
    assert "Invalid queries 1 –" in words  # noqa: RUF001
    assert "8 valid queries of 9" in words
    assert "12,345 gallery rows" in words


def test_intervals_stand_beside_map_and_rank_1(report: Report, page: str) -> None:
    words = Elements(page).words()
    assert "61.2 % baseline 95 % interval 55.1–66.3" in words  # noqa: RUF001
    assert "61.23 55.1–66.3" in words  # noqa: RUF001
    assert "50.00 37.5–62.5" in words  # noqa: RUF001
    assert "confidence intervals 95 %, 1000 replicates, seed 0" in words
    bare = tuple(replace(result, intervals=None, gains=None) for result in report.results)
    report = replace(report, bootstrap=None, results=bare)
    assert "interval" not in Elements(render_report(report)).words()


def test_a_gain_whose_interval_includes_zero_is_said_to_be_chance(page: str) -> None:
    words = Elements(page).words()
    assert "+6.25 +3.25 to +8.25 66.60" in words
    ends = f"{points(-0.0075, 1)} to {points(0.1125, 1)}"
    assert f"{points(0.0625, 1)} pts {ends} includes zero: may be chance" in words
    assert '<span class="gain same">+6.2 ' in page


def test_the_open_set_table(report: Report) -> None:
    report = changed(report, "results", 2, "open_set", to=None)
    page = render_report(report)
    words = Elements(page).words()
    assert "Of 16 pairs that match" in words
    assert "of 1,234 pairs that do not" in words
    row = "baseline 15.62 ≥ 0.5312 43.75 ≥ 0.7500 12 21.88 ≥ 0.9062 1 – – –"  # noqa: RUF001
    assert row in words
    assert 'title="fewer than 10,000 pairs that do not match"' in page
    assert "aqe joint not ordered by similarity" in words


def test_without_open_set_figures_there_is_no_section(report: Report) -> None:
    for place in range(3):
        report = changed(report, "results", place, "open_set", to=None)
    page = render_report(report)
    assert 'href="#open-set"' not in page
    assert 'id="open-set"' not in page


def test_the_camera_tables(report: Report, page: str) -> None:
    words = Elements(page).words()
    assert "Camera Queries Valid Rank-1 mAP c1 5 5 60.00 70.00" in words
    assert "unknown 1 0 – –" in words  # noqa: RUF001
    assert "c1 c2 c10 c1 – 59.4 50.0 84.4 50.0 c2 34.4 50.0 – –" in words  # noqa: RUF001
    assert 'title="5 queries of camera c1 with a match in camera c2"' in page
    report = changed(report, "results", 1, "camera_pairs", to=None)
    assert render_report(report).count('<table class="grid"') == 2


def test_of_many_cameras_the_busiest_are_shown(report: Report) -> None:
    result = replace(
        report.results[0],
        queries=190,
        valid=19,
        invalid=171,
        camera_pairs=tuple(PairFigures(f"c{n}", f"c{n + 1}", n, 0.5, 0.5) for n in range(1, 20)),
        query_cameras=tuple(CameraFigures(f"c{n}", n, 1, 0.5, 0.5) for n in range(1, 20)),
    )
    report = replace(report, results=(result,), ranked=None)
    words = Elements(render_report(report)).words()
    assert "The 12 cameras with the most queries; report.json has all 19." in words
    assert "c9 c10 c11 c12" in words
    assert "The busiest cameras; report.json has 7 more pairs." in words


def test_protocol_cuhk03_is_told_and_defined(report: Report, page: str) -> None:
    assert "cuhk03" not in page
    told = render_report(replace(report, protocol=Protocol("cuhk03", 10, 4)))
    words = Elements(told).words()
    assert "CMC is over 10 draws of one image of each identity" in words
    assert "drawn at random 10 times from seed 4" in words
    assert "protocol cuhk03, 10 draws, seed 4" in words
    test_every_link_within_the_page_leads_somewhere(told)


def test_what_it_takes_to_reproduce(report: Report, page: str) -> None:
    words = Elements(page).words()
    assert report.command in words
    assert f"fingerprint {'ab' * 32}" in words
    assert "mean 0.485, 0.456, 0.406" in words
    assert "query block 4096" in words
    assert "<pre" not in render_report(replace(report, command=None))


def test_a_cut_curve_says_so(report: Report, page: str) -> None:
    sentence = "The curve is cut at rank 10"
    assert Elements(page).words().count(sentence) == 1
    for place in range(3):
        report = changed(report, "results", place, "cmc_cut", to=None)
    assert sentence not in render_report(report)


def test_no_valid_query(no_valid_query: Report) -> None:
    words = Elements(render_report(no_valid_query)).words()
    assert "No query is valid. None of the 9 queries has a match" in words
    assert "There is no curve to draw" in words
    assert "None" not in words.replace("None of the", "")


@pytest.mark.parametrize("lists", [None, Ranked("baseline", (), (), ())])
def test_no_ranked_lists(report: Report, lists: Ranked | None) -> None:
    page = render_report(replace(report, ranked=lists))
    assert "This evaluation kept no ranked lists." in Elements(page).words()


def test_one_result_alone(report: Report) -> None:
    page = render_report(replace(report, results=report.results[:1]))
    assert " pts" not in Elements(page).words()
    assert "<dl>" not in page


def test_more_results_than_the_headline_holds(report: Report) -> None:
    more = tuple(replace(report.results[1], name=f"r{n}") for n in range(6))
    report = replace(report, results=report.results + more)
    assert "The table holds 4 more." in Elements(render_report(report)).words()
