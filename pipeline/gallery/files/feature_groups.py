"""The places of the features in a Parquet file, by row group, as its footer has them."""

from dataclasses import dataclass

import pyarrow.parquet as pq

from pipeline.gallery.files.page_header import header_bytes


@dataclass(frozen=True, slots=True)
class FeatureGroup:
    """A row group: its rows, and the place of its features if they may be plain in the file.

    The place is the offset of their page, the bytes of its header (0 if the features cannot be
    plain), and all its bytes.
    """

    number: int
    begin: int
    count: int
    offset: int = 0
    header: int = 0
    size: int = 0


def feature_groups(metadata: pq.FileMetaData, width: int) -> tuple[FeatureGroup, ...] | None:
    """The row groups of a file whose features have `width` bytes; None if it has no features."""
    names = metadata.schema.to_arrow_schema().names
    if "feature" not in names:
        return None
    column, begin, groups = names.index("feature"), 0, []
    for number in range(metadata.num_row_groups):
        about = metadata.row_group(number)
        feature, rows = about.column(column), about.num_rows
        header = header_bytes(feature, rows * width)
        place = (feature.data_page_offset, header, feature.total_compressed_size) if header else ()
        groups.append(FeatureGroup(number, begin, rows, *place))
        begin += rows
    return tuple(groups)
