"""Whatever a request holds, the answer is no failure of the service."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.service.openapi import PATHS
from tests.examples import FEW
from tests.service.asking import client

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 14)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["same", "yard", "camera", "AAAA", "camera = '1'", "c1", "2026-01-01"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["row", "key", "match", "value", "any", "a", "b"]), inner)
    ),
    max_leaves=6,
)
_NOT_ASKED = (
    "/v1/events",  # which does not end
    "/v1/openapi.json",
    "/v1/galleries/{gallery}/points",
    "/v1/galleries/{gallery}/review",  # whose jobs would outlive the tests
)
POSTS = {
    path: tuple(
        operations["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    )
    for path, operations in PATHS.items()
    if "requestBody" in operations.get("post", {})
}
GETS = {
    path: tuple(each["name"] for each in operations["get"]["parameters"])
    for path, operations in PATHS.items()
    if "get" in operations and path not in _NOT_ASKED
}
QUIET = settings(FEW, suppress_health_check=[HealthCheck.function_scoped_fixture])


def checked(answer):
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"status", "message"}, answer.text


def filled(path, draw):
    """A path with something for each of its parameters."""
    given = st.sampled_from(["yard", "boxes", "_all", "0", "3", "-3", "x", "%2e%2e", "9" * 20])
    return "/".join(draw(given) if part.startswith("{") else part for part in path.split("/"))


@QUIET
@given(st.data())
def test_any_body_is_answered(shelf, data):
    asked = client(shelf, allow_verdicts=True, burst=10_000)
    for path, names in POSTS.items():
        names = st.sampled_from([*names, "other"])
        body = data.draw(st.dictionaries(names, VALUES, max_size=3) | VALUES)
        headers = {"Content-Type": "application/json"}
        where = path.replace("{gallery}", data.draw(st.sampled_from(["yard", "_all", "x"])))
        checked(asked.post(where, content=json.dumps(body), headers=headers))


@QUIET
@given(st.data())
def test_any_parameters_are_answered(yard, data):
    asked = client(yard, burst=10_000)
    texts = st.text(max_size=6) | st.integers(-2, 300).map(str)
    for path, names in GETS.items():
        known = st.sampled_from([*names, "other"])
        given = data.draw(st.dictionaries(known, texts, max_size=2))
        checked(asked.get(filled(path, data.draw), params=given))
