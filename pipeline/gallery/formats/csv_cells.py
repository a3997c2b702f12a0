"""Cells of a CSV file that a spreadsheet would read as a formula."""

import pyarrow as pa
import pyarrow.compute as pc

_FORMULA = r"^[=+\-@\t\r]"


def safe_cells(table: pa.Table) -> pa.Table:
    r"""The table with an apostrophe before each text that begins with =, +, -, @, a tab or a CR.

    A spreadsheet shows such a cell as it is and computes nothing. Numbers stay numbers.

    >>> safe_cells(pa.table({"camera": ["=1+1", "c1", None], "identity": [-1, 0, 1]})).to_pydict()
    {'camera': ["'=1+1", 'c1', None], 'identity': [-1, 0, 1]}
    """
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            texts = table[field.name]
            found = pc.match_substring_regex(texts, _FORMULA)
            safe = pc.binary_join_element_wise("'", texts, "")
            table = table.set_column(index, field, pc.if_else(found, safe, texts))
    return table
