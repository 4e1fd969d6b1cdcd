"""STAR text: what the dialect takes, what it refuses, and how values are typed and written."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import DataProblem, FileProblem, FormatProblem, OutputProblem
from vitreous.io import star as module
from vitreous.io.star import parse_star, read_star, write_star
from vitreous.io.star_columns import column_texts, quoted, typed_column
from vitreous.model.table import Table


def table(text: str, block: str = "") -> Table:
    found = parse_star(text.encode())[block]
    assert isinstance(found, Table)
    return found


def test_a_particle_file_of_31():
    star = parse_star(
        b"\n# version 30001\n\ndata_optics\n\nloop_ \n_rlnA #1 \n_rlnB #2 \n  1.500000 x \n \n"
        b"\n# version 30001\n\ndata_general\n\n_rlnC    7.0\n \n"
    )
    assert star.version == "30001" and list(star) == ["optics", "general"]
    assert star["optics"]["rlnA"].tolist() == [1.5] and star["optics"]["rlnB"].tolist() == ["x"]
    assert star["general"] == {"rlnC": "7.0"}
    assert [name for name, _ in star.tables()] == ["optics"]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends(ending, last):
    content = ending.join([b"data_", b"", b"loop_", b"_a #1", b"_b #2", b"1 x", b"2\ty"]) + (ending if last else b"")
    found = parse_star(content)[""]
    assert found["a"].tolist() == [1, 2] and found["b"].tolist() == ["x", "y"]


def test_quotes_comments_and_empty_texts():
    found = table("data_\nloop_\n_a\n_b\n_c\n'it''s' \"two words\" '' # remark\n# a line of remark\na#b '#' \"\"\n")
    assert found["a"].tolist() == ["it''s", "a#b"]  # CIF: a quote ends a value only before a space
    assert found["b"].tolist() == ["two words", "#"] and found["c"].tolist() == ["", ""]


def test_text_fields():
    star = parse_star(b"data_\n_note\n;first\n second\n;\n_other 1\ndata_t\nloop_\n_a\n_b\n1\n;x\ny\n;\n2 z\n")
    assert star[""] == {"note": "first\n second", "other": "1"}
    assert star["t"]["a"].tolist() == [1, 2] and star["t"]["b"].tolist() == ["x\ny", "z"]


def test_empty_values_as_job_files_have_them():
    """RELION writes nothing for an empty option: a name alone, or the first of two columns alone."""
    star = parse_star(
        b"data_job\n\n_rlnJobType   \n_rlnContinue 0\n_rlnLast\n\n"
        b"data_options\nloop_\n_rlnVariable #1\n_rlnValue #2\nfn_in a.star\nother_args \nscratch_dir\nnr_mpi 2\n"
    )
    assert star["job"] == {"rlnJobType": "", "rlnContinue": "0", "rlnLast": ""}
    assert star["options"]["rlnVariable"].tolist() == ["fn_in", "other_args", "scratch_dir", "nr_mpi"]
    assert star["options"]["rlnValue"].tolist() == ["a.star", "", "", "2"]


def test_local_resolution_file():
    """RELION's file of local FSC curves has a line of free text after each block."""
    star = parse_star(
        b"data_fsc_1\nloop_\n_rlnA\n_rlnB\n1 2\n\n kk= -4 ii= 0 jj= 3 local resolution= 4.5\n"
        b"data_fsc_2\nloop_\n_rlnA\n_rlnB\n3 4\n"
    )
    assert [len(block) for block in star.values()] == [1, 1]


def test_rows_over_several_lines():
    assert table("data_\nloop_\n_a\n_b\n_c\n1 2\n3\n4\n5 6\n").columns.keys() == {"a", "b", "c"}
    assert table("data_\nloop_\n_a\n_b\n_c\n1 2\n3\n4\n5 6\n")["c"].tolist() == [3, 6]


def test_values_that_look_like_keywords():
    """A path may start as a keyword does; a name that starts a line ends the loop."""
    found = table("data_\nloop_\n_a\n_b\ndata_set/1.mrc 1\nloop_x 2\n'_x' 3\n")
    assert found["a"].tolist() == ["data_set/1.mrc", "loop_x", "_x"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "is not a STAR file"),
        ("# only a remark\n", "holds no block"),
        ("_a 1\n", "is not a STAR file"),
        ("data_x\nstray\n", "line 2.*belongs to no name"),
        ("data_x\ndata_x\n", "line 2: a second block called 'x'"),
        ("data_x y\n", "after the name of a block"),
        ("data_x\n_a 1\n_a 2\n", "line 3: a second value for 'a'"),
        ("data_x\n_a 1 2\n", "2 values for one name"),
        ("data_x\n_a\n1 2\n", "2 values for one name"),
        ("data_x\nloop_\n_a\n_a\n1 2\n", "the column 'a' appears twice"),
        ("data_x\nloop_\n_a b\n1\n", "after a column name"),
        (
            "data_x\nloop_\n_a\n_b\n_c\n1 2 3\n1 2 3 4\n",
            "line 7: more values than the 3 columns.*quote a value that has spaces",
        ),
        ("data_x\nloop_\n_a\n_b\n_c\n1 2 3\n1 2\n", "the last row has 2 of 3 values.*truncated"),
        ("data_x\nloop_\n1\n", "more values than the 0 columns"),
        ("data_x\nloop_\n_a\n1\nloop_\n_b\n1\n", "more than one table"),
        ("data_x\n_a 1\nloop_\n_b\n1\n", "more than one table"),
        ("data_x\nloop_\n_a\n1\n_b 1\n", "a pair after its loop"),
        ("data_x\n_a\n;text\n", "opened on line 3 is never closed"),
        ("data_x\n_a\n;text\n;more\n", "after the end of a text field"),
    ],
)
def test_refusals_name_the_line(text, words):
    with pytest.raises(FormatProblem, match=words) as caught:
        parse_star(text.encode())
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileProblem, match="does not exist"):
        read_star(tmp_path / "absent.star")
    (tmp_path / "empty.star").write_bytes(b"")
    with pytest.raises(FileProblem, match="is empty"):
        read_star(tmp_path / "empty.star")
    (tmp_path / "binary.star").write_bytes(bytes(range(256)))
    with pytest.raises(FormatProblem, match="not a STAR file"):
        read_star(tmp_path / "binary.star")


@pytest.mark.parametrize(
    ("tokens", "kind"),
    [
        (["1", "-2", "0"], "i"),
        (["1", "2.0"], "f"),
        (["1.5e-3", "nan", "-INF", ".5", "1e-05", "1E+3"], "f"),
        (["0.5", "00.5"], "O"),  # a name, by its zeros
        (["007", "1"], "O"),
        (["1234567890123456"], "O"),  # 16 digits: an identity
        (["123456789012345"], "i"),
        (["12e4"], "O"),
        (["1e999"], "O"),
        (["1_000"], "O"),  # Python would take it
        (["1", ""], "O"),
        (["000001@a.mrcs"], "O"),
    ],
)
def test_types(tokens, kind):
    column = typed_column([token.encode() for token in tokens])
    assert column.dtype.kind == kind
    if kind == "O":
        assert column.tolist() == tokens


def test_numbers_in_text_columns_are_quoted_only_where_needed():
    assert column_texts(np.array(["1", "2"], dtype=object)) == ['"1"', '"2"']
    assert column_texts(np.array(["1", "x"], dtype=object)) == ["1", "x"]
    assert column_texts(np.array(["007"], dtype=object)) == ["007"]
    assert column_texts(np.array([0.1, 1e-7, 300.0], dtype=np.float32)) == ["0.1", "1e-07", "300.0"]
    assert column_texts(np.array([True, False])) == ["1", "0"]
    assert quoted("it's") == "it's" and quoted("a b") == '"a b"' and quoted('a" b') == "'a\" b'" and quoted("") == '""'


def test_what_cannot_be_written(tmp_path):
    path = tmp_path / "out.star"
    for blocks, error in (
        ({"two words": {}}, OutputProblem),
        ({"x": {"a b": "1"}}, OutputProblem),
        ({"x": {"a": "carriage\rreturn"}}, DataProblem),
        ({"x": {"a": "zero\0byte"}}, DataProblem),
        ({"x": {"a": "line\n;start"}}, DataProblem),
        ({"x": {"a": "\ud800"}}, DataProblem),
        ({"x": Table({"a": np.zeros((2, 2))})}, DataProblem),
    ):
        with pytest.raises(error):
            write_star(path, blocks)
    assert list(tmp_path.iterdir()) == []


def test_a_long_loop_with_a_bad_row_is_refused_without_python_objects(monkeypatch):
    """Beyond some size the plain reader would need more memory than there is: the compiled one then has the last
    word."""
    monkeypatch.setattr(module, "_FAST_LOOP_BYTES", 0)
    monkeypatch.setattr(module, "_PLAIN_LOOP_BYTES", 0)
    with pytest.raises(FormatProblem, match=r"the loop of 2 columns after line 4.*truncated or damaged"):
        parse_star(b"data_\nloop_\n_a\n_b\n1 2\n3\n")
    assert parse_star(b"data_\nloop_\n_a\n_b\n1 2\n3 4\n")[""]["b"].tolist() == [2, 4]


def test_line_numbers_after_a_compiled_loop(monkeypatch):
    monkeypatch.setattr(module, "_FAST_LOOP_BYTES", 0)
    with pytest.raises(FormatProblem, match="line 9: a second block called 'a'"):
        parse_star(b"data_a\nloop_\n_a\n_b\n1 2\n\n3 4\n# x\ndata_a\n")
