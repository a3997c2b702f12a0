"""The forms of the bodies that requests hold, as JSON Schemas of the OpenAPI document."""

from pipeline.service.answer_schemas import BOOLEAN, NUMBER, TEXT, WHOLE, Schema, listed


def options(**properties: Schema) -> Schema:
    """An object that may have these fields and has no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


_IDS = {**listed(WHOLE), "minItems": 1}
_VECTOR = {**listed(NUMBER), "minItems": 1}
_PICTURE = {**TEXT, "contentEncoding": "base64", "description": "An image file in base64."}
_CONDITION = {
    "type": "object",
    "required": ["key"],
    "properties": {
        "key": {**TEXT, "description": "A column of a row."},
        "match": {"type": "object", "description": "With `value`, `any` or `except`."},
        "range": {"type": "object", "description": "With `gt`, `gte`, `lt`, `lte`."},
        "is_null": BOOLEAN,
    },
}
_WHO = {**TEXT, "maxLength": 200, "description": "Who gives it (default: the service's user)."}
_VERDICT = {
    "a": WHOLE,
    "b": WHOLE,
    "verdict": {"enum": ["same", "different", "withdrawn"]},
    "comment": TEXT,
    "who": _WHO,
}

SEARCH: Schema = options(
    row={**WHOLE, "description": "A row of the gallery."},
    rows=_IDS,
    vector=_VECTOR,
    vectors=listed(_VECTOR),
    image=_PICTURE,
    images=listed(_PICTURE),
    positive={**_IDS, "description": "Rows that hits are to be like."},
    negative={**listed(WHOLE), "description": "Rows that they are not to be like."},
    frame=options(row=WHOLE),
    box={
        **listed(WHOLE),
        "minItems": 4,
        "maxItems": 4,
        "description": "x, y, width and height in pixels: a part of the images or of the frame.",
    },
    filter=options(must=listed(_CONDITION), must_not=listed(_CONDITION)),
    limit={**WHOLE, "minimum": 1, "default": 10},
    threshold={**NUMBER, "minimum": -1, "maximum": 1},
    version=WHOLE,
)
VERDICTS: Schema = options(**_VERDICT, verdicts=listed(options(**_VERDICT)))
MERGE: Schema = options(groups={**listed(_IDS), "minItems": 2}, who=_WHO, comment=TEXT)
SPLIT: Schema = {
    "type": "object",
    "properties": {"rows": _IDS, "from": _IDS, "who": _WHO, "comment": TEXT},
    "required": ["rows", "from"],
    "additionalProperties": False,
}
ERASURE: Schema = options(
    where={**TEXT, "description": "An SQL condition on the columns."},
    rows=_IDS,
    dry_run={**BOOLEAN, "default": False},
    purge={**BOOLEAN, "default": True},
    everywhere={**BOOLEAN, "default": False},
    confirm={**TEXT, "description": "The name of the gallery."},
)
KNN: Schema = {
    "type": "object",
    "properties": {
        "indice_name": TEXT,
        "image": _PICTURE,
        "embedding_input": _VECTOR,
        "num_images": {**WHOLE, "minimum": 1},
        "modality": {"const": "image"},
    },
}
METADATA: Schema = {
    "type": "object",
    "properties": {"indice_name": TEXT, "ids": _IDS},
    "required": ["ids"],
}
