"""The forms of the service's answers, as JSON Schemas (draft 2020-12) of the OpenAPI document."""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
ANYTHING: Schema = {}


def listed(items: Schema) -> Schema:
    """A list of one form.

    >>> listed(TEXT)
    {'type': 'array', 'items': {'type': 'string'}}
    """
    return {"type": "array", "items": items}


def maybe(schema: Schema) -> Schema:
    """A value of a form, or null.

    >>> maybe(WHOLE)
    {'type': ['integer', 'null']}
    """
    if set(schema) <= {"type", "format"} and isinstance(schema["type"], str):
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def fields(**properties: Schema) -> Schema:
    """An object that has all of these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def named(name: str) -> Schema:
    """The form of this name in `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def about_gallery(**properties: Schema) -> Schema:
    """What is answered about a gallery: its name, version and fingerprint, and these fields."""
    return fields(gallery=TEXT, version=WHOLE, fingerprint=TEXT, **properties)


_ROW = {
    "row_id": WHOLE,
    "path": TEXT,
    "identity": maybe(WHOLE),
    "camera": maybe(TEXT),
    "captured_at": maybe(TIME),
    "captured_until": maybe(TIME),
    "frame": maybe(WHOLE),
    "tracklet": maybe(TEXT),
    "boxes": maybe(WHOLE),
    "height": maybe(WHOLE),
    "width": maybe(WHOLE),
    "quality": maybe(NUMBER),
}
_HIT = fields(**_ROW, rank=WHOLE, score=NUMBER, match=maybe(BOOLEAN))
_HIT["properties"]["gallery"] = {**TEXT, "description": "With several galleries as one."}
_FOUND = fields(
    gallery=TEXT,
    version=maybe(WHOLE),
    fingerprint=TEXT,
    exact={"const": True},
    took_ms=NUMBER,
    threshold=maybe(NUMBER),
    threshold_from=maybe(TEXT),
    results=listed(fields(query={"type": "object"}, hits=listed(named("Hit")))),
)
_FOUND["properties"]["versions"] = {"type": "object", "additionalProperties": WHOLE}
_WORDS = {"enum": ["same", "different", "withdrawn"]}
_OUTPUT = fields(kind=TEXT, place=TEXT, host=TEXT, version=WHOLE, is_here=BOOLEAN)
_FIGURES = fields(
    created=TIME,
    query=fields(location=TEXT, version=WHOLE),
    gallery=fields(location=TEXT, version=WHOLE),
    results=listed({"type": "object", "required": ["name", "mAP", "mINP", "rank"]}),
    worst=listed({"type": "object", "required": ["path", "ap", "row_id"]}),
)

SCHEMAS: dict[str, Schema] = {
    "Error": fields(error=fields(status=WHOLE, message=TEXT)),
    "Row": fields(**_ROW),
    "Hit": _HIT,
    "Found": _FOUND,
    "Gallery": about_gallery(
        location=TEXT,
        rows=WHOLE,
        dimension=WHOLE,
        dtype={"enum": ["float32", "float16"]},
        recipe={"type": "object"},
        cameras=listed(fields(camera=TEXT, rows=WHOLE)),
        identities=WHOLE,
        first_time=maybe(TIME),
        last_time=maybe(TIME),
        threshold=maybe(NUMBER),
        threshold_from=maybe(TEXT),
        calibration=listed(fields(threshold=NUMBER, false_match_rate=maybe(NUMBER))),
        verdicts=fields(same=WHOLE, different=WHOLE),
        tracklets=BOOLEAN,
        frames=BOOLEAN,
    ),
    "Galleries": fields(
        galleries=listed(named("Gallery")),
        allow=fields(verdicts=BOOLEAN, erase=BOOLEAN),
        images=BOOLEAN,
    ),
    "Rows": about_gallery(rows=listed(named("Row")), next=maybe(WHOLE)),
    "OneRow": about_gallery(row=named("Row")),
    "Person": fields(
        identity={**WHOLE, "description": "Below -1 where only verdicts join the rows."},
        rows=WHOLE,
        cameras=listed(TEXT),
        first_time=maybe(TIME),
        last_time=maybe(TIME),
        row_ids=listed(WHOLE),
    ),
    "People": about_gallery(people=listed(named("Person")), total=WHOLE, next=maybe(WHOLE)),
    "OnePerson": about_gallery(person=named("Person"), rows=listed(named("Row"))),
    "Verdicts": about_gallery(
        verdicts=listed(
            fields(
                a=WHOLE,
                b=WHOLE,
                verdict={"enum": ["same", "different"]},
                who=TEXT,
                given_at=TIME,
                seen_version=WHOLE,
                comment=maybe(TEXT),
                path_a=TEXT,
                path_b=TEXT,
            )
        ),
        withdrawn=WHOLE,
        verdicts_without_row=WHOLE,
        contradictions=listed(TEXT),
    ),
    "Recorded": about_gallery(recorded=WHOLE, unchanged=WHOLE, same=WHOLE, different=WHOLE),
    "Given": about_gallery(verdicts=listed(fields(a=WHOLE, b=WHOLE, verdict=_WORDS))),
    "Review": about_gallery(
        exact={"const": True},
        pairs=listed(
            fields(a=named("Row"), b=named("Row"), score=NUMBER, gain=NUMBER, linked=BOOLEAN)
        ),
        threshold=NUMBER,
        threshold_from=TEXT,
    ),
    "Quality": about_gallery(
        rejects=listed(fields(n=WHOLE, path=TEXT, reason=TEXT, detail=maybe(TEXT))),
        rejects_total=WHOLE,
        rejects_by_reason={"type": "object", "additionalProperties": WHOLE},
        by_camera=listed(
            fields(
                camera=maybe(TEXT),
                rows=WHOLE,
                first_time=maybe(TIME),
                last_time=maybe(TIME),
                mean_quality=maybe(NUMBER),
            )
        ),
        camera_pairs=listed(
            fields(
                a=TEXT,
                b=TEXT,
                positives=WHOLE,
                negatives=WHOLE,
                threshold=maybe(NUMBER),
                true_match_rate=maybe(NUMBER),
            )
        ),
        oddities=listed(
            fields(
                kind={"enum": ["frame", "duplicate", "low-quality"]},
                rows=WHOLE,
                examples=listed(named("Row")),
            )
        ),
        drift=listed({"type": "object", "required": ["camera", "shift", "has_drifted"]}),
        silent=listed({"type": "object", "required": ["camera", "last", "quiet_hours"]}),
        evaluation=maybe(_FIGURES),
    ),
    "WouldErase": about_gallery(
        dry_run={"const": True},
        purge_unfinished={"type": "boolean"},
        rows=WHOLE,
        row_ids=listed(WHOLE),
        rows_left=WHOLE,
        without_time=WHOLE,
        cameras=listed(TEXT),
        identities=WHOLE,
        first_time=maybe(TIME),
        last_time=maybe(TIME),
        outputs=listed(_OUTPUT),
    ),
    "Accepted": fields(job=TEXT),
    "Job": fields(
        job=TEXT,
        kind=TEXT,
        state={"enum": ["running", "done", "failed"]},
        progress=fields(done=WHOLE, total=maybe(WHOLE), label=maybe(TEXT)),
        result=ANYTHING,
        error=maybe(TEXT),
    ),
    "Neighbors": listed({"type": "object", "required": ["id", "similarity", "path"]}),
    "Metadata": listed(fields(id=WHOLE, metadata={"type": "object"})),
}
"""The forms by name."""
