"""The header of a Parquet data page: the offset of plain values, and their checksum.

The header is a Thrift structure in the compact protocol whose first four fields are whole numbers:
type, uncompressed size, compressed size, and the CRC-32 of what follows
(https://github.com/apache/parquet-format, `PageHeader`).
"""

import pyarrow.parquet as pq

_DATA_PAGE = 0
_LONGEST_HEADER = 128
_NEXT_FIELD_IS_I32 = 0x15


def header_bytes(column: pq.ColumnChunkMetaData, size: int) -> int:
    """The number of header bytes before a column's `size` bytes; 0 if these cannot be plain.

    Plain means one page, neither compressed nor encoded, of values of a fixed length that are never
    null.
    """
    header = column.total_compressed_size - size
    is_plain = (
        column.physical_type == "FIXED_LEN_BYTE_ARRAY"
        and column.compression == "UNCOMPRESSED"
        and set(column.encodings) <= {"PLAIN", "RLE"}
        and not column.has_dictionary_page
        and 0 < header <= _LONGEST_HEADER
    )
    return int(header) if is_plain else 0


def stored_checksum(header: bytes, size: int) -> int | None:
    """The CRC-32 of the `size` bytes after a header; None if it is not that of one plain page."""
    fields = _first_numbers(header, 4)
    if fields is None or fields[:3] != [_DATA_PAGE, size, size]:
        return None
    return fields[3] & 0xFFFFFFFF


def _first_numbers(header: bytes, count: int) -> list[int] | None:
    """The first fields of a structure, if each is an i32 and none is missing."""
    numbers: list[int] = []
    place = 0
    try:
        for _ in range(count):
            if header[place] != _NEXT_FIELD_IS_I32:
                return None
            place += 1
            value = shift = 0
            while True:
                byte = header[place]
                place += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            numbers.append((value >> 1) ^ -(value & 1))
    except IndexError:
        return None
    return numbers
