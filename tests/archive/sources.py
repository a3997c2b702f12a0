"""Small sources to be listed, and what a listing says of them."""


def fill(root, *paths, data=b"x"):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def paths(listing):
    return listing.images["path"].to_pylist()


def rejects(listing):
    return dict(
        zip(
            listing.rejects["path"].to_pylist(),
            listing.rejects["reason"].to_pylist(),
            strict=True,
        )
    )
