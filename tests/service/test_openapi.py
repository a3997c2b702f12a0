"""The OpenAPI document: it has every path, and real answers are as it says."""

import base64

import jsonschema
import pytest

from pipeline.service.openapi import document
from tests.service.asking import client, computed

YARD = "/v1/galleries/yard"


@pytest.fixture(scope="module")
def told():
    return document()


def schema_of(told, path, method, status):
    """The form that an answer in JSON has by the document, with what it refers to."""
    answer = told["paths"][path][method]["responses"][str(status)]
    schema = answer["content"]["application/json"]["schema"]
    return {**schema, "components": told["components"]}


def test_the_document_has_the_routes_of_the_application_and_no_other(yard, told):
    routes = {
        (route.path, method.lower())
        for route in client(yard).app.routes
        for method in route.methods - {"HEAD"}
        if route.path != "/{path:path}"
    }
    documented = {
        (path, method)
        for path, operations in told["paths"].items()
        for method in operations
        if method != "parameters"
    }
    assert routes == documented
    assert client(yard).get("/v1/openapi.json").json()["paths"].keys() == told["paths"].keys()


def test_every_form_is_a_schema_and_is_used(told):
    for schema in told["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    text = str(told)
    for name in told["components"]["schemas"]:
        assert f"'#/components/schemas/{name}'" in text, name
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            if method == "post" and "requestBody" in operation:
                for content in operation["requestBody"]["content"].values():
                    jsonschema.Draft202012Validator.check_schema(content["schema"])
            assert path.count("{") == len(operations["parameters"])


PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@pytest.mark.parametrize(
    ("path", "asked", "body", "status"),
    [
        ("/healthz", "/healthz", None, 200),
        ("/v1/links", "/v1/links", {}, 201),
        ("/v1/openapi.json", "/v1/openapi.json", None, 200),
        ("/v1/galleries", "/v1/galleries", None, 200),
        ("/v1/galleries/{gallery}", YARD, None, 200),
        ("/v1/galleries/{gallery}", "/v1/galleries/none", None, 404),
        ("/v1/galleries/{gallery}/rows", f"{YARD}/rows?limit=2", None, 200),
        ("/v1/galleries/{gallery}/rows", f"{YARD}/rows?limit=x", None, 400),
        ("/v1/galleries/{gallery}/rows/{row_id}", f"{YARD}/rows/1", None, 200),
        ("/v1/galleries/{gallery}/people", f"{YARD}/people", None, 200),
        ("/v1/galleries/{gallery}/people/{identity}", f"{YARD}/people/1", None, 200),
        ("/v1/galleries/{gallery}/search", f"{YARD}/search", {"row": 1}, 200),
        ("/v1/galleries/{gallery}/search", "/v1/galleries/_all/search", {"vector": [1] * 8}, 200),
        ("/v1/galleries/{gallery}/search", f"{YARD}/search", {}, 400),
        ("/v1/galleries/{gallery}/search", f"{YARD}/search", {"image": PICTURE}, 409),
        ("/v1/galleries/{gallery}/verdicts", f"{YARD}/verdicts", {"a": 0}, 400),
        (
            "/v1/galleries/{gallery}/erasures",
            f"{YARD}/erasures",
            {"rows": [1], "dry_run": True},
            200,
        ),
        ("/v1/galleries/{gallery}/erasures", f"{YARD}/erasures", {"rows": [1]}, 403),
        ("/v1/galleries/{gallery}/review", f"{YARD}/review", None, 200),
        ("/v1/galleries/{gallery}/quality", f"{YARD}/quality", None, 200),
        ("/knn-service", "/knn-service", {"embedding_input": [1] * 8, "indice_name": "yard"}, 200),
        ("/metadata", "/metadata", {"ids": [1, 2], "indice_name": "yard"}, 200),
        ("/indices-list", "/indices-list", None, 200),
    ],
)
def test_real_answers_are_as_documented(yard, told, path, asked, body, status):
    user = client(yard, allow_verdicts=True)
    answer = computed(user, asked) if body is None else user.post(asked, json=body)
    assert answer.status_code == status, answer.text
    schema = schema_of(told, path, "get" if body is None else "post", status)
    jsonschema.validate(answer.json(), schema, format_checker=jsonschema.FormatChecker())
    if body:
        wanted = told["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        jsonschema.validate(body, wanted["schema"])


def test_answers_that_write_are_as_documented(shelf, told):
    user = client(shelf, allow_verdicts=True)
    for name, body in (
        ("verdicts", {"a": 0, "b": 3, "verdict": "same", "comment": "shoes"}),
        ("merge", {"groups": [[4], [5]], "who": "ann"}),
        ("split", {"rows": [0], "from": [4]}),
    ):
        answer = user.post(f"{YARD}/{name}", json=body)
        path = f"/v1/galleries/{{gallery}}/{name}"
        jsonschema.validate(answer.json(), schema_of(told, path, "post", 200))
        wanted = told["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        jsonschema.validate(body, wanted["schema"])
    path = "/v1/galleries/{gallery}/verdicts"
    jsonschema.validate(user.get(f"{YARD}/verdicts").json(), schema_of(told, path, "get", 200))


def test_jobs_are_as_documented(yard, told):
    user = client(yard)
    job = user.app.state.service.work.start("test", lambda progress: {"rows": 1})
    schema = schema_of(told, "/v1/jobs/{job}", "get", 200)
    jsonschema.validate(user.get(f"/v1/jobs/{job.job}").json(), schema)
