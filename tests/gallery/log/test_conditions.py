"""Conditions: what is selected is what a loop over the rows selects, and all else is refused."""

import operator
import re
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.log.conditions import DEEPEST, LONGEST_CONDITION, parse
from pipeline.gallery.table import Gallery
from tests.gallery.making import new_gallery, rejects_table, unit_rows

TEXTS = ["3", "-12", "c1", "C1", "a%b", "a_b", "a\\b", "it's", "é\nx", "", "x"]
NUMBERS = [-(2**63), -1, 0, 3, 7, 2**53 + 1, 2**63 - 1]
SHARES = [-0.5, 0.0, 0.1, 0.5, 1e30]
MOMENTS = [
    datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, 12, 0, 0, 1, UTC),
    datetime(2026, 1, 1, 12, 0, 0, 1001, UTC),
    datetime(2026, 3, 1, tzinfo=UTC),
]
DAYS = sorted({each.date() for each in MOMENTS})
HASHES = [bytes(16), bytes(range(16))]
VALUES = {
    "path": None,
    "identity": NUMBERS,
    "camera": TEXTS,
    "captured_at": MOMENTS,
    "frame": NUMBERS,
    "size": NUMBERS,
    "mtime": MOMENTS,
    "content_hash": HASHES,
    "height": [16, 256],
    "width": [16, 128],
    "quality": SHARES,
}
FILES = [range(4), range(4, 7), range(7, 30), range(30, 31)]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Files of one camera, of none, and of many; every third value is null."""
    gallery = new_gallery(tmp_path_factory.mktemp("conditions") / "g")
    records = []
    for number, ids in enumerate(FILES):
        rows = unit_rows(gallery.target, ids, [f"{TEXTS[i % len(TEXTS)]}/{i}" for i in ids])
        for at, (name, values) in enumerate(VALUES.items()):
            if values is not None:
                place = rows.schema.get_field_index(name)
                field = rows.schema.field(place)
                made = [values[(i * 13 + at) % len(values)] if (i + at) % 3 else None for i in ids]
                if name in ("camera", "captured_at") and number < 2:
                    made = [None if number else values[0] for _ in ids]
                rows = rows.set_column(place, field, pa.array(made, field.type))
        records.append(write_unit(gallery.target, f"u{number}", ids, rows, rejects_table([])))
    return gallery.commit(records, run_id="x")


@pytest.fixture(scope="module")
def rows(gallery):
    return gallery.rows().to_pylist()


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def written(value):
    """A value as a literal."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, datetime):
        return quoted(value.isoformat())
    return f"date '{value}'" if isinstance(value, date) else repr(value)


COLUMNS = {
    **{name: (lambda row, name=name: row[name], VALUES[name] or TEXTS) for name in VALUES},
    "row_id": (lambda row: row["row_id"], list(range(-1, 32))),
    "cast(identity as text)": (lambda row: as_if(str, row["identity"]), ["3", "-1", "x"]),
    "height::double precision": (lambda row: as_if(float, row["height"]), [16.0, 16.5]),
    "cast(captured_at as date)": (lambda row: as_if(datetime.date, row["captured_at"]), DAYS),
}
COMPARISONS = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FAMILIES = [("identity", "frame", "size", "height", "width", "row_id"), ("captured_at", "mtime")]


def as_if(convert, value):
    return None if value is None else convert(value)


def both(left, right):
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def neither(value):
    return None if value is None else not value


def either(left, right):
    return neither(both(neither(left), neither(right)))


def compare(name, left, right):
    return None if left is None or right is None else COMPARISONS[name](left, right)


def like(text, pattern, flags=0):
    """Whether a pattern fits, its letters taken one after the other."""
    if text is None:
        return None
    shape, letters = "", iter(pattern)
    for letter in letters:
        shape += {"%": ".*", "_": ".", "\\": ""}.get(letter, re.escape(letter))
        if letter == "\\":
            shape += re.escape(next(letters))
    return re.fullmatch(shape, text, re.DOTALL | flags) is not None


@st.composite
def leaves(draw):
    """A condition without and, or, not: its text, and what it is of a row."""
    name = draw(st.sampled_from(sorted(COLUMNS)))
    of, values = COLUMNS[name]
    some = st.sampled_from(values)
    sign = draw(st.sampled_from(sorted(COMPARISONS)))
    negated = draw(st.booleans())
    no = "not " if negated else ""
    maybe = neither if negated else (lambda value: value)
    kind = draw(st.sampled_from(["is", "in", "between", "left", "right", "like", "columns"]))
    if kind == "like" and isinstance(values[0], str):
        pattern = draw(st.text(st.sampled_from("c1%_3ab/"), max_size=4))
        pattern = draw(st.sampled_from([pattern, "a\\%b", "%\\_%", "%\\\\%", "%'%", "é_x"]))
        if draw(st.booleans()):
            text = f"{name} {no}ilike {quoted(pattern)}"
            return text, lambda row: maybe(like(of(row), pattern, re.IGNORECASE))
        return f"{name} {no}like {quoted(pattern)}", lambda row: maybe(like(of(row), pattern))
    if kind == "columns" and (family := [each for each in FAMILIES if name in each]):
        other = draw(st.sampled_from([each for each in family[0] if each != name]))
        return f"{name} {sign} {other}", lambda row: compare(sign, of(row), row[other])
    if kind == "in":
        members = draw(st.lists(some, min_size=1, max_size=4))
        text = f"{name} {no}in ({', '.join(map(written, members))})"
        return text, lambda row: maybe(None if of(row) is None else of(row) in members)
    if kind == "between":
        low, high = draw(some), draw(some)
        text = f"{name} {no}between {written(low)} and {written(high)}"
        return text, lambda row: maybe(
            both(compare(">=", of(row), low), compare("<=", of(row), high))
        )
    value = draw(some)
    if kind == "left":
        return f"{written(value)} {sign} {name}", lambda row: compare(sign, value, of(row))
    if kind == "right":
        return f"{name} {sign} {written(value)}", lambda row: compare(sign, of(row), value)
    return f"{name} is {no}null", lambda row: (of(row) is None) is not negated


def combined(parts):
    """Conditions of conditions; brackets only where the order of evaluation asks for them."""
    three = st.lists(parts, min_size=2, max_size=3)

    def chain(word, join):
        def joined(several):
            text = f" {word} ".join(f"({each})" for each, _ in several)

            def of(row):
                found = several[0][1](row)
                for _, other in several[1:]:
                    found = join(found, other(row))
                return found

            return text, of

        return three.map(joined)

    def bare(pair):
        """`a or b and not c`, without any brackets."""
        (first, a), (second, b), (third, c) = pair
        text = f"{first} or {second} and not {third}"
        return f"{text}\n", lambda row: either(a(row), both(b(row), neither(c(row))))

    opposite = parts.map(lambda part: (f"not ({part[0]})", lambda row: neither(part[1](row))))
    return (
        chain("and", both)
        | chain("OR", either)
        | opposite
        | st.tuples(leaves(), leaves(), leaves()).map(bare)
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(condition=st.recursive(leaves(), combined, max_leaves=6))
def test_what_is_selected_is_what_a_loop_selects(gallery, rows, condition):
    text, of = condition
    assert gallery.select(text).tolist() == [row["row_id"] for row in rows if of(row) is True]


@pytest.mark.parametrize(
    ("where", "files"),
    [
        ("row_id >= 7", [2, 3]),
        ("row_id in (5, 30)", [1, 3]),
        ("not row_id > 6", [0, 1]),
        ("camera is null", [1, 2]),
        ("camera is not null", [0, 2, 3]),
        ("camera in ('3')", [0, 2]),
        ("row_id = 99 or captured_at < '1969-01-01'", []),
        ("camera like '3'", [0, 2, 3]),
        ("row_id = 3 and cast(camera as bigint) = 3", [0, 1, 2, 3]),
    ],
)
def test_files_that_cannot_hold_a_row_are_passed_over(gallery, where, files):
    """But for a condition that may fail: whether it does must not depend on the files."""
    assert parse(where).possible_files(gallery.snapshot.ranges) == files


def refusal(gallery, where):
    with pytest.raises(InputError) as caught:
        gallery.select(where)
    assert "\n" not in str(caught.value)
    return str(caught.value)


CONSTANT = [
    "1/0 = 1", "0/0 > 5", "1/0 = 1 or false", "1/0 = 1 and row_id < 3", "row_id < 3 and 1/0 = 1",
    "true", "not false", "1 = 1", "null", "'a' like 'a'", "1 in (1, 2)", "null is null",
    "row_id = 3 or true", "cast('x' as bigint) = 1", "date '2026-01-01' < '2026-01-02'",
    "random() < 2",
]  # fmt: skip


@pytest.mark.parametrize("where", CONSTANT)
def test_a_part_that_uses_no_column_is_refused_by_name(gallery, where):
    assert "uses no column: it is the same for every row" in refusal(gallery, where)


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("path in (select path from x)", "path IN (SELECT path FROM x) is not allowed"),
        ("exists (select row_id from x)", "is not allowed"),
        ("sum(row_id) > 3", "SUM(row_id) is not allowed"),
        ("row_id / 0 = 1", "row_id / 0 is not allowed"),
        ("identity + 9223372036854775807 > 0", "identity + 9223372036854775807 is not allowed"),
        ("row_id = row_id", "compares row_id with itself"),
        ("not ((camera)) = camera", "compares camera with itself"),
        ("row_id between row_id and 9", "compares row_id with itself"),
        ("1 between 2 and row_id", "1 is compared with 2: neither is a column"),
        ("1 < row_id < 3", "1 < row_id is not allowed"),
        ("row_id = null", "write is null"),
        ("camera in ('c1', null)", "write is null"),
        ("row_id in ()", "in takes values, as in row_id in (1, 2)"),
        ("camera in ('c1', path)", "in takes values, and path is a column"),
        ("3 in (row_id, frame)", "3 is not a column"),
        ("row_id in (1, (select 2))", "SELECT 2 is not allowed"),
        ("row_id in (1, '2')", "row_id holds whole numbers: '2' is something else"),
        ("row_id in 3", "row_id IN 3 is not allowed"),
        ("camera like path", "like wants a pattern in quotes, not path"),
        ("row_id like '3'", "row_id holds whole numbers: like is for text"),
        ("camera like 'a!%' escape '!'", "is not allowed"),
        ("camera like any ('a', 'b')", "like wants a pattern"),
        ("camera like 'a\\'", "ends with an escape"),
        ("camera similar to 'c1'", "is not allowed"),
        ("camera ~ 'c1'", "is not allowed"),
        ("camera || 'x' = 'c1x'", "is not allowed"),
        ("(row_id > 5) = (identity > 2)", "row_id > 5 is not allowed"),
        ("(row_id = 1) is true", "is not allowed: is null"),
        ("(row_id = 1) is null", "row_id = 1 is not allowed"),
        ("3 is null or row_id = 1", "3 IS NULL uses no column"),
        ("row_id = true", "TRUE is not allowed"),
        ("identity is distinct from 3", "is not allowed"),
        ("row_id between symmetric 9 and 3", "is not allowed"),
        ("case when row_id = 1 then true end", "is not allowed"),
        ("x.row_id = 1", "x.row_id is not allowed"),
        ("Row_ID = 1", "No field named Row_ID. Valid fields are row_id, path"),
        ("feature is null", "No field named feature"),
        ("row_id = ?", "is not allowed"),
        ("row_id < camera", "row_id holds whole numbers and camera text: cast one of them"),
        ("captured_at < row_id", "captured_at holds times and row_id whole numbers"),
        ("row_id = 3.5", "row_id holds whole numbers: 3.5 is something else"),
        ("row_id = '3'", "row_id holds whole numbers: '3' is something else"),
        ("row_id < 9223372036854775808", "9223372036854775808 is something else"),
        ("row_id = -'3'", "is something else"),
        ("row_id = - -3", "is not allowed"),
        ("quality > 1e", "quality holds numbers: 1e is something else"),
        ("camera = -3", "compare text with text in quotes"),
        ("camera = x'00'", "camera holds text: x'00' is something else"),
        ("content_hash = 'abc'", "content_hash holds bytes: 'abc' is something else"),
        ("content_hash = x'0g'", "cannot be read"),
        ("content_hash = x'0'", "something else"),
        ("captured_at < 'noon'", "captured_at holds times: 'noon' is something else"),
        ("captured_at < '2026-01-01T00:00:00.0000001'", "is something else"),
        ("identity = cast('3' as bigint)", "is something else"),
        ("cast(captured_at as date) = '2026-13-01'", "holds days: '2026-13-01' is something else"),
        ("cast(camera as varchar(1)) = 'c'", "cast to text, bigint, double, timestamp or date"),
        ("cast(camera as boolean) = 'c'", "cast to text, bigint, double, timestamp or date"),
        ("try_cast(camera as bigint) = 1", "try_cast is not allowed"),
        ("cast(camera as timestamp) = '2026-01-01'", "camera holds text: no cast makes it times"),
        ("cast(row_id + 1 as text) = '1'", "is not allowed"),
        ("-row_id = 1", "is not allowed"),
        ("upper(camera) = 'C1'", "UPPER(camera) is not allowed"),
        ("camera = $$x$$", "is not allowed"),
        ("camera = E'a\\nb'", "is not allowed"),
        ("camera = 'a' 'b'", "is not allowed"),
        ("camera = '\udcff'", "cannot be read"),
        ("camera = 'x", "cannot be read"),
        ("camera = 'x' /*", "cannot be read"),
        ("`row_id` = 3", "cannot be read"),
        ("-- row_id = 3", "cannot be read"),
        ("row_id = 1; row_id = 2", "cannot be read"),
        ("camera = 'x' -- and row_id = 2", "has a comment"),
        ("camera = 'x' /* and row_id = 2 */", "has a comment"),
        ("camera = 'x' {# and row_id = 2 #}", "has a comment"),
        ("camera = 'x' --", "has a comment"),
        ("/**/ camera = 'x'", "has a comment"),
        (" ", "the condition is empty"),
    ],
)  # fmt: skip
def test_what_a_condition_may_not_hold(gallery, where, named):
    assert named in refusal(gallery, where)


def test_a_cast_that_fails_on_one_row_is_an_error(gallery):
    assert "does not work: Failed to parse string: " in refusal(
        gallery, "cast(camera as bigint) = 3"
    )
    assert "does not work" in refusal(gallery, "row_id = 3 and cast(camera as bigint) = 3")
    assert "does not work" in refusal(gallery, "cast(frame as double precision) = 3")


def test_a_cast_of_what_can_be_cast(gallery):
    known = gallery.commit([], run_id="y", removes=range(4, 31))
    assert known.select("cast(camera as bigint) >= 3").tolist() == [0, 1, 2, 3]
    assert known.select("cast(camera as double precision) < 3.5").tolist() == [0, 1, 2, 3]
    assert Gallery.open(gallery.location, 1).count == 31


@pytest.mark.parametrize(
    "text",
    [
        "'2026-01-01'",
        "date '2026-01-01'",
        "timestamp '2026-01-01'",
        "'2026-01-01T02:00+02:00'",
        "timestamptz '2026-01-01 00:00Z'",
    ],
)
def test_forms_of_a_time(gallery, rows, text):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    expected = [row["row_id"] for row in rows if row["captured_at"] == at]
    assert gallery.select(f"captured_at = {text}").tolist() == expected != []


@pytest.mark.parametrize(
    "where",
    [
        "(" * 4990 + "row_id = 1" + ")" * 4990,
        "not " * 2400 + "row_id = 1",
        "row_id = " + "- " * 4000 + "1",
        "not (" * (DEEPEST + 1) + "row_id = 1" + ")" * (DEEPEST + 1),
        "cast(" * 700 + "row_id" + " as text)" * 700,
    ],
    ids=["brackets", "not", "signs", "levels", "casts"],
)
def test_a_deep_condition_is_refused(gallery, where):
    assert len(where) < LONGEST_CONDITION
    assert f"more than {DEEPEST} levels deep" in refusal(gallery, where)


def test_a_long_condition_is_refused(gallery):
    where = " and ".join(["row_id = 1"] * 20_001)
    assert f"characters, and {LONGEST_CONDITION:,} are allowed" in refusal(gallery, where)


def test_the_longest_conditions_work(gallery):
    each = [f"row_id={i}" for i in range(3, 700)]
    assert gallery.select(" or ".join(each)).tolist() == list(range(3, 31))
    assert gallery.select(" and ".join(["row_id=3"] * 700)).tolist() == [3]
    many = f"row_id in ({', '.join(map(str, range(3, 1800)))})"
    assert len(many) < LONGEST_CONDITION
    assert gallery.select(many).tolist() == list(range(3, 31))
    deep = DEEPEST // 2 - 1
    assert gallery.select("not (" * 2 * deep + "row_id = 3" + ")" * 2 * deep).tolist() == [3]


PIECES = [
    "row_id", "camera", "=", "<", "(", ")", "'a'", "1", "and", "or", "not", "in", "like", "is",
    "as", "null", "cast", ";", "--", ",", ".", "case", "select", "::", "[", "{", "$", "\\", "'",
    '"', "/*",
]  # fmt: skip


@settings(max_examples=50)
@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join))
def test_any_text_is_read_or_refused(text):
    try:
        assert parse(text).columns
    except InputError as error:
        assert "condition" in str(error)
