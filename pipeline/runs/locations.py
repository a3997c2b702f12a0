"""Kinds of arguments that several verbs take."""

from typing import Annotated


class _Marker:
    """A mark for annotations; it holds nothing."""


LOCATION = _Marker()

Location = Annotated[str, LOCATION]
"""A path or any fsspec URL. `submit` refuses a relative path, because the job runs in a different
folder on the cluster.
"""
