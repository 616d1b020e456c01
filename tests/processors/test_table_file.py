"""Tables of clips: what is read, and what an error says."""

import datetime

import numpy as np
import pytest

from mmpt.pose.span import Span
from mmpt.processors.table_file import read_table
from mmpt.utils.errors import MissingDataError, UserError

HEADER = "id,path,text,split,signer\n"


def write(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_paths_and_names_of_splits(tmp_path):
    path = write(tmp_path, HEADER + 'a,poses/a.pose,"hello, world",train,x\nb,b.pose, tree ,Val,\n')
    table = read_table(path)
    one, two = table.rows
    assert (one.id, one.text, one.split, one.signer, one.line) == ("a", "hello, world", "train", "x", 2)
    assert one.path == tmp_path / "poses" / "a.pose" and one.span is None and not one.left_handed
    assert (two.text, two.split, two.signer, two.line) == ("tree", "valid", "", 3)
    assert [row.id for row in table.of_split("train")] == ["a"]
    with pytest.raises(UserError, match="column 'split' has no row of 'test'; it has: train, valid"):
        table.of_split("test")


def test_text_and_gloss_default_to_each_other(tmp_path):
    (row,) = read_table(write(tmp_path, "id\tpath\tgloss\na\ta.pose\tTREE\n", "t.tsv")).rows
    assert row.text == "TREE" and row.values["text"] == row.values["gloss"] == "TREE"


@pytest.mark.parametrize(
    "columns, cells, span",
    [
        ("start,end", "100,250.5", Span(100, 250.5, "ms")),
        ("start_ms,end_ms", "100,", Span(100, None, "ms")),
        ("start_frame,end_frame", ",7", Span(0, 7, "frames")),
        ("start,end", ",", None),
    ],
)
def test_span_columns(tmp_path, columns, cells, span):
    (row,) = read_table(write(tmp_path, f"id,path,text,{columns}\na,a.pose,x,{cells}\n")).rows
    assert row.span == span


def test_a_byte_order_mark_and_line_breaks_in_cells(tmp_path):
    path = write(tmp_path, "\ufeff" + HEADER + '\na,a.pose,"two\nlines",train,\nb,,x,train,\n')
    with pytest.raises(UserError, match="line 5, column 'path': it is empty"):
        read_table(path)


def test_parquet_equals_csv(tmp_path):
    import pyarrow
    from pyarrow import parquet

    columns = {"id": [1, 2], "path": ["a.pose", "b.pose"], "text": ["x", "y"]}
    columns |= {"start_frame": [None, 3.0], "left_handed": [True, False], "split": ["train", "test"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    csv = write(
        tmp_path,
        "id,path,text,start_frame,left_handed,split\n1,a.pose,x,,true,train\n2,b.pose,y,3,false,test\n",
    )
    ours, theirs = read_table(tmp_path / "t.parquet").rows, read_table(csv).rows
    for a, b in zip(ours, theirs, strict=True):
        assert (a.line, a.id, a.path, a.text, a.split, a.span, a.left_handed) == (
            b.line,
            b.id,
            b.path,
            b.text,
            b.split,
            b.span,
            b.left_handed,
        )
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match="not readable as Parquet"):
        read_table(tmp_path / "broken.parquet")


@pytest.mark.parametrize(
    "text, words",
    [
        ("id,path\na,a.pose\n", r"line 1: there is no column text \(or gloss\); got id, path"),
        ("id,id,path,text\n", "line 1: the column 'id' occurs twice"),
        ("id,path,text,start,start_ms\n", "start and start_ms mean the same"),
        ("id,path,text,start_ms,end_frame\n", "start is in ms, end in frames"),
        (HEADER + "a,a.pose,x,train\n", r"line 2: expected 5 cells .* got 4"),
        (
            HEADER + "a,a.pose,x,train,\n\na,b.pose,y,test,\n",
            "line 4, column 'id': 'a' is also the id of line 2",
        ),
        (HEADER + "a,a.pose,,train,\n", "line 2, column 'text': it is empty"),
        (HEADER + "a,a.pose,x,trian,\n", "line 2, column 'split': expected train, .* got 'trian'"),
        (
            "id,path,text,end\na,a.pose,x,soon\n",
            "line 2, column 'end': expected milliseconds from 0 up, got 'soon'",
        ),
        (
            "id,path,text,start,end\na,a.pose,x,0,1_000\n",
            "line 2, column 'end': expected milliseconds from 0 up, got '1_000'",
        ),
        ("id,path,text,end_frame\na,a.pose,x,1.5\n", "column 'end_frame': expected frames .* got '1.5'"),
        ("id,path,text,start,end\na,a.pose,x,5,5\n", "column 'end': 5 is not after the start, 5"),
        ("id,path,text,left_handed\na,a.pose,x,perhaps\n", "column 'left_handed': expected true or false"),
        (HEADER + 'a,a.pose,"x,train,\n', "not readable as a table"),
        (HEADER, "no rows below its header"),
    ],
)
def test_errors_name_file_line_and_column(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=words) as error:
        read_table(path)
    assert str(error.value).startswith(str(path))


def test_invalid_tables_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="there is no table"):
        read_table(tmp_path / "no.csv")
    with pytest.raises(UserError, match=r"expected a table, a \.csv"):
        read_table(write(tmp_path, HEADER, "table.txt"))
    path = tmp_path / "latin.csv"
    path.write_bytes("id,path,text\na,a.pose,Bär\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_table(path)


def test_unicode_is_normalised(tmp_path):
    """José with é as one character, or as e and an accent."""
    one, two = "Jos\u00e9", "Jose\u0301"
    path = write(tmp_path, HEADER + f"a,a{two}.pose,{one},train,{one}\nb,b.pose,{two},test,{two}\n")
    first, second = read_table(path).rows
    assert first.signer == second.signer == first.text == second.text == second.values["text"] == one
    assert first.path.name == f"a{two}.pose", "files are called as they are called"


@pytest.mark.parametrize("suffix, comma", [("csv", ","), ("tsv", "\t")])
def test_a_stray_quote_does_not_swallow_rows(tmp_path, suffix, comma):
    lines = [
        "id,path,split,text",
        '1,a.pose,train,"HELLO',
        "2,b.pose,train,B",
        '3,c.pose,train,C"',
        "4,d.pose,train,D",
    ]
    path = write(tmp_path, "\n".join(lines).replace(",", comma) + "\n", f"t.{suffix}")
    with pytest.raises(UserError, match=r"line 2: a cell that starts with 'HELLO.*its quote is not closed"):
        read_table(path)


@pytest.mark.parametrize("bad", ["a\0,a.pose,A,train,x", "a,a.pose,A\0B,train,x"])
def test_zero_bytes_are_refused(tmp_path, bad):
    with pytest.raises(UserError, match=r"line 2: not readable as a table \(it holds a zero byte\)"):
        read_table(write(tmp_path, HEADER + bad + "\n"))


def test_a_quoted_cell_may_hold_lines_and_commas(tmp_path):
    text = "one, two, three\nfour, five, six, seven\n\u2028eight"
    path = write(tmp_path, HEADER + f'a,a.pose,"{text}",train,x\nb,b,"{text}",test,\n')
    table = read_table(path)
    assert [row.text for row in table.rows] == [text, text] and table.rows[1].line == 5


@pytest.mark.parametrize("name", ["table.csv", "table.tsv"])
def test_a_stray_quote_in_a_table_of_files_without_suffix(tmp_path, name):
    lines = ["id,path,text", '1,a,"HELLO', "2,b,B", '3,c,C"']
    comma = "\t" if name.endswith("tsv") else ","
    with pytest.raises(UserError, match=r"line 2: a cell that starts with 'HELLO.*its quote is not closed"):
        read_table(write(tmp_path, "\n".join(lines).replace(",", comma) + "\n", name))


@pytest.mark.parametrize(
    "header, name, words",
    [
        ("id;path;text", "t.csv", "separated by a semicolon: separate them by a comma"),
        ("id\tpath\ttext", "t.csv", "separated by a tab: separate them by a comma"),
        ("id,path,text", "t.tsv", "separated by a comma: separate them by a tab"),
        ("ID;Path;Text", "t.csv", "separated by a semicolon"),
        ("sep=;\nid;path;text", "t.csv", "Remove the first line"),
        ("ID,Path,text", "t.csv", "write id, path instead of ID, Path"),
        ("id,path,Gloss", "t.csv", "write gloss instead of Gloss"),
    ],
)
def test_another_separator_or_case_is_named(tmp_path, header, name, words):
    with pytest.raises(UserError, match=words):
        read_table(write(tmp_path, f"{header}\na,a.pose,x\n", name))


def write_parquet(target, /, **columns):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), target)
    return target


def test_parquet_values_become_the_text_that_one_would_type(tmp_path):
    import pyarrow

    path = write_parquet(
        tmp_path / "t.parquet",
        id=pyarrow.array([b"a", b"b"]),
        path=pyarrow.array(["a.pose", "b.pose"]).dictionary_encode(),
        text=pyarrow.array(["Ä".encode(), b"x"]).dictionary_encode(),
        start=pyarrow.array([0.1, 16777216.0], pyarrow.float32()),
        half=pyarrow.array([np.float16(0.1), None], pyarrow.float16()),
        time=pyarrow.array([1, None], pyarrow.timestamp("ns")),
        day=pyarrow.array([0, 86_400_000_000_000], pyarrow.timestamp("ns")),
    )
    one, two = read_table(path).rows
    assert (one.id, one.text, two.id) == ("a", "Ä", "b")
    assert one.span == Span(0.1, None, "ms") and two.span == Span(16777216, None, "ms")
    assert (one.values["half"], two.values["half"]) == ("0.1", "")
    assert (one.values["time"], two.values["time"]) == ("1970-01-01 00:00:00.000000001", "")
    assert two.values["day"] == "1970-01-02 00:00:00"


@pytest.mark.parametrize("values", [[["A", "B"]], [{"a": 1}], [b"\xff\xd8"]])
def test_parquet_columns_that_are_no_text(tmp_path, values, caplog):
    good = {"id": ["a"], "path": ["a.pose"], "text": ["x"]}
    with pytest.raises(UserError, match=r"column 'text': it holds .*, and not a text or number in each row"):
        read_table(write_parquet(tmp_path / "t.parquet", **good | {"text": values}))
    table = read_table(write_parquet(tmp_path / "u.parquet", **good, other=values))
    assert table.columns == ["id", "path", "text"] and "column 'other'" in caplog.text


def test_a_parquet_duration_is_not_taken_for_milliseconds(tmp_path):
    good = {"id": ["a"], "path": ["a.pose"], "text": ["x"]}
    with pytest.raises(UserError, match=r"column 'start': it holds duration.*times as milliseconds"):
        read_table(write_parquet(tmp_path / "t.parquet", **good, start=[datetime.timedelta(seconds=1)]))
