"""STAR files: what is written is read back, and the compiled reader and writer agree with the plain ones."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vitreous.errors import VitreousError
from vitreous.io import star, star_fast, star_fast_write
from vitreous.io.star import parse_star, read_star, write_star
from vitreous.io.star_columns import column_texts, typed_column
from vitreous.model.table import Table, TextColumn

PROPERTY = settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

AWKWARD = [
    "",
    " ",
    "loop_",
    "LOOP_x",
    "data_x",
    "_x",
    "#",
    "a#b",
    "a #b",
    "'",
    '"',
    "it's",
    'a"b',
    "a' b",
    'a" b',
    "a' b\" c",
    ";",
    ";x",
    "\t",
    "1",
    "-0",
    "007",
    "1.5",
    "nan",
    "inf",
    "1e5",
    "1e-5",
    "12e4",
    "12345678901234567890",
    "000001@a.mrcs",
    "[1,2]",
    "$x",
    "é",
    "\u00a0",
    "\x85",
    "\u2028",
    ".",
    "?",
    "a\nb",
    "\n",
    "a\n b;",
    "save_",
    "stop_1",
    "\udcff",
    "kk= 1 local resolution= 3",
]
CHARACTERS = st.characters(
    exclude_categories=("Cs",), exclude_characters="\r\0"
)  # the two that a STAR file cannot hold
texts = st.one_of(st.sampled_from(AWKWARD), st.text(CHARACTERS, max_size=12)).filter(lambda text: "\n;" not in text)
names = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\0"), max_size=8).filter(
    lambda name: not any(c.isspace() for c in name)
)
floats = st.floats(allow_nan=True, allow_infinity=True)
integers = st.integers(-(10**15) + 1, 10**15 - 1)


@st.composite
def columns(draw, rows: int):
    kind = draw(st.sampled_from(["float", "decimal", "int", "text"]))
    if kind == "int":
        return np.array(draw(st.lists(integers, min_size=rows, max_size=rows)), dtype=np.int64)
    if kind == "float":
        return np.array(draw(st.lists(floats, min_size=rows, max_size=rows)), dtype=np.float64)
    if kind == "decimal":
        return np.array(
            [value / 10**6 for value in draw(st.lists(st.integers(-(10**11), 10**11), min_size=rows, max_size=rows))]
        )
    column = np.empty(rows, dtype=object)
    column[:] = draw(st.lists(texts, min_size=rows, max_size=rows))
    return column


@st.composite
def tables(draw):
    rows = draw(st.integers(1, 5))
    return Table({name: draw(columns(rows)) for name in draw(st.lists(names, min_size=1, max_size=4, unique=True))})


pairs = st.dictionaries(names, texts, max_size=4)
files = st.dictionaries(names, st.one_of(pairs, tables()), min_size=1, max_size=3)


def assert_same(left, right) -> None:
    if not isinstance(left, Table):
        assert left == right
        return
    assert left.names == right.names
    for name in left:
        a, b = np.asarray(left[name]), np.asarray(right[name])
        assert a.dtype == b.dtype, name
        if a.dtype.kind == "f":
            assert np.array_equal(a, b, equal_nan=True) and np.array_equal(
                np.signbit(a[~np.isnan(a)]), np.signbit(b[~np.isnan(b)])
            )
        else:
            assert a.tolist() == b.tolist()


@PROPERTY
@given(blocks=files)
@example(blocks={"": {}, "x": Table({"a": np.empty(0, dtype=object)})})
@example(blocks={"t": Table({"_loop": np.array(["x", "data_b"], dtype=object)})})
def test_write_then_read_is_identity(tmp_path, blocks):
    path = tmp_path / "file.star"
    write_star(path, blocks)
    found = read_star(path)
    assert list(found) == list(blocks)
    for name, block in blocks.items():
        assert_same(block, found[name])


@PROPERTY
@given(
    content=st.lists(
        st.sampled_from(
            [
                "data_a\n",
                "data_b\n",
                "loop_\n",
                "_x ",
                "_y\n",
                "_z #1\n",
                "1 ",
                "2.50 ",
                "'a b' ",
                '"" ',
                "x\n",
                "\n",
                "# c\n",
                "\t",
            ]
        ),
        max_size=25,
    )
)
def test_read_then_write_then_read_is_identity(tmp_path, content):
    """Whatever a file says that can be read at all, writing and reading it again gives the same blocks."""
    try:
        first = parse_star("".join(content).encode())
    except VitreousError:
        return
    path = tmp_path / "file.star"
    write_star(path, first)
    second = read_star(path)
    assert list(first) == list(second)
    for name in first:
        assert_same(first[name], second[name])


@PROPERTY
@given(
    tokens=st.lists(
        st.one_of(
            st.sampled_from([t.encode() for t in AWKWARD if t and t.isascii() and not any(c.isspace() for c in t)]),
            st.from_regex(rb"[-+]?[0-9]{0,20}\.?[0-9]{0,8}(e[-+]?[0-9]{1,3})?", fullmatch=True),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_numbers_are_python_numbers(tokens):
    """A column is read as numbers only if each is exactly the number that Python reads, and text otherwise,
    unchanged."""
    column = typed_column(tokens)
    if column.dtype == object:
        assert [text.encode("utf-8", "surrogateescape") for text in column] == tokens
    else:
        expected = [float(token) for token in tokens]
        assert np.array_equal(column.astype(float), expected, equal_nan=True)


# ---- the compiled reader and writer
# ---------------------------------------------------------------------------------------

KEYWORDS = ("data_", "loop_", "save_", "stop_", "global_")
PLAIN_WORDS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#;'\"_"), min_size=1, max_size=6
).filter(lambda text: not text.lower().startswith(KEYWORDS))
plain_tokens = st.one_of(
    st.sampled_from(
        [
            "1",
            "-1",
            "0",
            "-0",
            "+5",
            "1.5",
            "-0.25",
            ".5",
            "5.",
            "1e-05",
            "1.5e3",
            "1E+2",
            "007",
            "-01.5",
            "12e4",
            "nan",
            "-inf",
            "INF",
            "1e999",
            "0.1",
            "1_0",
            "0x1",
            "123456789012345",
            "1234567890123456",
            "0.30000000000000004",
            "9007199254740993.0",
            "1.7976931348623157e+308",
            "5e-324",
            "2.2250738585072011e-308",
            "000001@a.mrcs",
            "2@a.mrcs",
            "3@",
            "@a",
            "1@b c",
            "x",
            "'q 1'",
            '"2"',
            "''",
            "a'b",
            "1e",
            "--1",
            "1.2.3",
            "-",
            "+",
            ".",
            "e5",
            "123456789012345678901234567890@z",
        ]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**17), 10**17).map(str),
    st.integers(-(10**11), 10**11).map(lambda n: f"{n / 1e6:.6f}"),
    PLAIN_WORDS,
)


@st.composite
def loops(draw):
    count = draw(st.integers(1, 4))
    kinds = [
        draw(
            st.sampled_from(
                [
                    plain_tokens,
                    st.integers(-99, 99).map(str),
                    st.floats(-1e6, 1e6).map(lambda x: f"{x:.6f}"),
                    st.integers(1, 30).map(lambda n: f"{n:06d}@s{n % 3}.mrcs"),
                ]
            )
        )
        for _ in range(count)
    ]
    rows = draw(st.integers(1, 12))
    separators = st.sampled_from([" ", "  ", "\t"])
    lines = []
    for _ in range(rows):
        lines.append(
            draw(st.sampled_from(["", " "]))
            + draw(separators).join(draw(kind) for kind in kinds)
            + draw(st.sampled_from(["\n", " \n", "\r\n", "\n\n", " # remark\n"]))
        )
    end = draw(st.sampled_from(["", "\n", "data_next\n", "\n# version 30001\n\ndata_next\n\n_a 1\n"]))
    return count, "".join(lines).encode(), end.encode()


@settings(max_examples=200, deadline=None)
@given(loop=loops(), sample=st.integers(1, 4))
def test_compiled_reader_equals_plain_reader(loop, sample):
    """Also where the first rows mislead about the types: `sample` is how many of them it looks at."""
    count, body, end = loop
    head = b"data_t\nloop_\n" + b"".join(b"_c%d\n" % n for n in range(count))
    try:
        plain = parse_star(head + body + end)
    except VitreousError:
        return
    original, star_fast._SAMPLE_ROWS = star_fast._SAMPLE_ROWS, sample
    try:
        found = star_fast.read_columns(head + body + end, len(head), count)
    finally:
        star_fast._SAMPLE_ROWS = original
    assert found is not None
    columns, position, lines = found
    assert (head + body + end)[position:].strip() in (end.strip(), b"data_next\n\n_a 1", b"")
    assert lines <= (body + end).count(b"\n") + 1
    table = plain["t"]
    assert isinstance(table, Table)
    assert_same(table, Table(dict(zip(table.names, columns))))


@settings(max_examples=80, deadline=None)
@given(table=tables(), split=st.booleans())
def test_compiled_writer_equals_plain_writer(table, split):
    column = TextColumn(
        np.arange(len(table)) % 2,
        ("a.mrcs", "path with space" if split else "b.mrcs"),
        np.arange(len(table)) + 1,
        np.full(len(table), 6),
    )
    table = table.with_columns({"image": column, "pool": TextColumn(np.zeros(len(table), dtype=int), ("12",))})
    lines = zip(*[column_texts(column) for column in table.columns.values()])
    assert b"".join(star_fast_write.loop_bytes(table)).decode("utf-8", "surrogateescape") == "".join(
        " ".join(line) + "\n" for line in lines
    )


def test_long_loops_take_the_compiled_way(tmp_path, monkeypatch):
    """The switch itself: with the thresholds down, a whole file goes through both compiled parts and comes back the
    same."""
    monkeypatch.setattr(star, "_FAST_LOOP_BYTES", 0)
    monkeypatch.setattr(star, "_FAST_ROWS", 1)
    monkeypatch.setattr(star, "_IN_MEMORY_BYTES", 0)  # mapped, as a long file is
    rng = np.random.default_rng(0)
    table = Table(
        {
            "a": rng.normal(size=500).round(6),
            "b": np.arange(500),
            "c": np.array([f"{n:06d}@s.mrcs" for n in range(500)], dtype=object),
        }
    )
    path = tmp_path / "long.star"
    write_star(path, {"first": {"x": "1"}, "t": table, "last": {"y": "2"}})
    found = read_star(path)
    assert list(found) == ["first", "t", "last"] and found["last"] == {"y": "2"}
    assert isinstance(found["t"], Table) and isinstance(found["t"]["c"], TextColumn)
    assert_same(table, found["t"])
