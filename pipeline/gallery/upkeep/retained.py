"""The remains of deleted objects in a bucket: old versions of them, and incomplete uploads.

No listing of a gallery shows either, so a purge asks for them separately. S3 is asked through
`botocore`, which finds the same credentials in the environment, or the role of the machine.
"""

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

from pipeline.errors import InputError
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace, StoreError, reason_of

_UNKNOWN = {
    "gs": "whether the bucket keeps deleted objects (soft delete, object versioning)",
    "az": "whether the container keeps deleted blobs (soft delete, versions, snapshots)",
}


@dataclass(frozen=True)
class Retained:
    """The numbers of old versions (including deletion markers) and incomplete uploads in a bucket
    below a place.

    `not_checked` names the things that could not be asked.
    """

    versions: int = 0
    uploads: int = 0
    not_checked: tuple[str, ...] = ()


def check_can_ask(root: GalleryPlace) -> None:
    """Raise `InputError` if S3 cannot be asked about retained objects: a purge could then prove
    nothing.
    """
    if isinstance(root, ObjectPlace) and root.bucket.startswith("s3://"):
        try:
            import botocore.session  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"{root}: a purge asks the bucket for old versions of objects, for which it needs"
                " botocore: pip install 'regallery[s3]'"
            ) from error


def retained(root: GalleryPlace) -> Retained:
    """Count what the bucket of a gallery retains of deleted objects; zero for a folder."""
    if not isinstance(root, ObjectPlace):
        return Retained()
    scheme, _, bucket = root.bucket.partition("://")
    if scheme in _UNKNOWN:
        return Retained(not_checked=(_UNKNOWN[scheme],))
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return _of_s3(_client(), bucket, f"{root.key}/")
    except (BotoCoreError, ClientError) as error:
        raise StoreError(
            f"{root}: the bucket does not say which old versions it keeps ({reason_of(error)}): a"
            " purge needs the permissions s3:ListBucketVersions and s3:ListBucketMultipartUploads"
        ) from error


def _client() -> Any:
    import botocore.session

    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session.create_client("s3", region_name=region)


@cache
def _loader(data_path: str | None) -> Any:
    """The descriptions of services, from which a client is made; to read them takes a tenth of a
    second, and a purge of copies everywhere asks for each of them.
    """
    import botocore.loaders

    return botocore.loaders.create_loader(data_path)


def _of_s3(client: Any, bucket: str, prefix: str) -> Retained:
    versions = uploads = 0
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        versions += sum(not each["IsLatest"] for each in page.get("Versions", ()))
        versions += len(page.get("DeleteMarkers", ()))
    pages = client.get_paginator("list_multipart_uploads")
    for page in pages.paginate(Bucket=bucket, Prefix=prefix):
        uploads += len(page.get("Uploads", ()))
    return Retained(versions, uploads)
