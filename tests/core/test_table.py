"""Tables as spreadsheets save them: what separates columns, byte order marks, UTF-16, columns twice."""

import csv
import os
import random
import re
import time
from pathlib import Path

import pytest
from conftest import Run, make_classes, write

from imgclf.clean import applying
from imgclf.core import csv_files
from imgclf.core.config import SplitConfig
from imgclf.core.errors import ImgclfError
from imgclf.core.files.reading import read_bounded
from imgclf.data.manifest import manifest_path, read_manifest
from imgclf.split import splitting
from imgclf.train.class_weights import class_weights

LINES = [("path", "action", "detail"), ("a/1.jpg", "keep", "x; y, z"), ("é/2.jpg", "quarantine", 'say "hi"\there')]


def saved(separator: str, encoding: str) -> bytes:
    """As Excel and LibreOffice write it: fields with separators in quotes, lines ended by CR LF."""
    quoted = [
        [f'"{field.replace(chr(34), chr(34) * 2)}"' if re.search(r'[,;\t"]', field) else field for field in row]
        for row in LINES
    ]
    return "".join(separator.join(row) + "\r\n" for row in quoted).encode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_what_spreadsheets_write_is_read(separator: str, encoding: str, tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", saved(separator, encoding))
    expected = [dict(zip(LINES[0], row, strict=True)) for row in LINES[1:]]
    assert [row for _line, row in csv_files.records(file, "path", "action")] == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"path,action,a;b;c;d;e\nx,keep,1;2;3;4;5\n", {"path": "x", "action": "keep", "a;b;c;d;e": "1;2;3;4;5"}),
        (b"path;action;note\nx;keep;1,2,3,4,5\n", {"path": "x", "action": "keep", "note": "1,2,3,4,5"}),
        (b"path;action;;;\nx;keep;;;\n;;;;\n", {"path": "x", "action": "keep", "": ""}),  # columns and lines left empty
        (b" path , action \nx,keep\n", {"path": "x", "action": "keep"}),
    ],
)
def test_values_do_not_decide_what_separates_columns(content: bytes, expected: dict[str, str], tmp_path: Path) -> None:
    assert [row for _line, row in csv_files.records(write(tmp_path / "t.csv", content), "path", "action")] == [expected]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"path;action;path\nx;keep;y\n", r"has the column path twice \(path, action, path\); remove one of them"),
        (b"path;what\n", "needs the columns path and action, has path, what"),
        (b"path;action\nx;keep;y\n", "line 2: 3 fields where the header has 2"),
        (b"PK\x03\x04rest of a workbook", "a workbook or archive, not a CSV"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ImgclfError, match=words) as caught:
        list(csv_files.records(write(tmp_path / "t.csv", content), "path", "action"))
    assert "\n" not in str(caught.value)


def test_every_table_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    """--apply, --groups, --class-weights and the split's manifest, each with semicolons, a byte order mark and CR LF."""
    data = make_classes(tmp_path / "data", {"a": 10, "b": 10}, size=8)

    def table_of(*lines: str) -> Path:
        return write(tmp_path / "t.csv", b"\xef\xbb\xbf" + "".join(f"{line}\r\n" for line in lines).encode())

    groups = table_of("group;path", *(f"{number // 5};a/{number:03d}.png" for number in range(10)))
    manifest = splitting.split(data, SplitConfig(groups=str(groups))).manifest
    assert len({row.group for row in manifest.rows if row.label == "a"}) == 2
    file = manifest_path(data)
    write(file, b"\xef\xbb\xbf" + file.read_bytes().replace(b",", b";").replace(b"\n", b"\r\n"))
    assert read_manifest(file) == manifest
    weights = class_weights(str(table_of("class;weight", "a;0,5", "b;1,5")), ("a", "b"), [10, 10])
    assert weights is not None and weights.tolist() == [0.5, 1.5]
    issues, _notes = applying.apply(data, table_of("path;action;new_label", "a/000.png;relabel;b", "a/001.png;quarantine;"))
    assert [issue.moved_to for issue in issues] == ["b/000-2.png", ".imgclf/quarantine/0001/a/001.png"]


def test_another_encoding_is_named(tmp_path: Path) -> None:
    """Excel's plain CSV is not UTF-8: a path with an umlaut is not found, and the line says why."""
    data = make_classes(tmp_path / "data", {"ä": 3, "b": 3}, size=8)
    report = write(tmp_path / "t.csv", "path;action\nä/000.png;quarantine\n".encode("cp1252"))
    with pytest.raises(ImgclfError, match=r'line 2: .* the file is not UTF-8: save it as "CSV UTF-8"'):
        applying.apply(data, report)


# -- formulas, and files that someone else made -----------------------------------------------------------------------------

FORMULAS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"


def test_what_is_written_is_read() -> None:
    """Random names with all that could be mistaken: formulas, apostrophes, separators, quotes, ends of lines, stray bytes."""
    generator = random.Random(1)
    letters = FORMULAS + "'',;\" a\u00e9\udc80\ufeff1"
    names = ["".join(generator.choices(letters, k=generator.randrange(6))) for _name in range(5000)]
    rows = [("path", "other"), *zip(names[::2], names[1::2], strict=True)]
    text = "".join(map(csv_files.line, rows))
    assert [tuple(row) for _line, row in csv_files.rows(text.encode("utf-8", "surrogateescape"), "path", "other")] == rows
    cells = [cell for row in csv.reader(text.splitlines(keepends=True)) for cell in row]  # as a spreadsheet reads it
    assert [cell for cell in cells if cell.startswith(tuple(FORMULAS))] == []


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"), ("'=1+1", "''=1+1"), ("''=1", "'''=1"), ("'a", "'a"), ("-1", "'-1"), ("a=1", "a=1"), ("'", "'"),
        (-1, "-1"), (-0.5, "-0.5"), (None, ""), ("", ""), ("@x", "'@x"), ("+x", "'+x"), ("\uff1dx", "'\uff1dx"),
    ],
)  # fmt: skip
def test_only_text_is_written_otherwise(value: object, written: str) -> None:
    assert csv_files.line([value, "x"]) == f"{written},x\n"


def test_every_table_that_is_written(project: Path, imgclf: Run) -> None:
    """A class called like a formula goes through every command: no table has it as one, and every reader has the class."""
    from imgclf.models.bundle import Bundle

    os.rename(project / "data" / "red", project / "data" / "=red")
    for words in (
        ("split", "data", "--force"),
        ("split", "data", "--folds", "3"),
        ("clean", "data", "--dry-run", "--report", "found.csv"),
        ("train", "data", "--epochs", "1", "--run-dir", "runs/new"),
        ("evaluate", "--run", "runs/new"),
    ):
        done = imgclf(*words)
        assert done.returncode == 0, done.stderr
    assert "=red" in Bundle.load(project / "runs/new").class_names
    tables = [project / "found.csv", *(project / "data/.imgclf").rglob("*.csv"), *(project / "runs/new").rglob("*.csv")]
    assert {path.name for path in tables} >= {
        "found.csv",
        "split.csv",
        "fold-1-of-3.csv",
        "history.csv",
        "predictions-test.csv",
    }
    for path in tables:
        with open(path, newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert [cell for cell in cells if cell.startswith(("=", "+", "@"))] == [], path
        assert path.name in ("history.csv", "split-1.csv") or [cell for cell in cells if cell.startswith("'=red")], path
    manifest = read_manifest(project / "data/.imgclf/split.csv")
    assert "=red" in manifest.class_names
    assert all((project / "data" / row.path).is_file() for row in manifest.rows)
    write(project / "found.csv", b"path,action,new_label\n'=red/000.png,relabel,blue\nblue/000.png,relabel,'=red\n")
    issues, _notes = applying.apply(project / "data", project / "found.csv")
    assert [issue.moved_to for issue in issues] == ["blue/000-2.png", "=red/000-2.png"]
    done = imgclf("predict", "=red/001.png", "--run", "../runs/new", "--csv", cwd=project / "data")
    assert done.stdout.splitlines()[1].startswith("'=red/001.png,")


@pytest.mark.skipif(os.name == "nt", reason="no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for reader in (lambda path: list(csv_files.records(path, "path")), read_manifest):
        with pytest.raises(ImgclfError, match=r"pipe.csv: cannot be read: not a regular file but a pipe or device"):
            reader(tmp_path / "pipe.csv")
    with pytest.raises(ImgclfError, match="this is a folder, not a file"):
        list(csv_files.records(tmp_path, "path"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"path\n" + b"x" * (1 << 21), "line 2: longer than 1,048,576 characters"),
        (b"path\n" + b"x" * 200_000, "field larger than field limit"),
        (b"path\n" + b"," * 500_000 + b"x", "500001 fields where the header has 1"),
        (b"path," + b",".join(b"c%d" % number for number in range(100_000)), ""),  # not quadratic in the number of columns
        (b"path\n" + bytes(1 << 19), "field larger"),
    ],
)
def test_lines_without_end(content: bytes, words: str, tmp_path: Path) -> None:
    began = time.monotonic()
    try:
        assert list(csv_files.records(write(tmp_path / "t.csv", content), "path")) == []
    except ImgclfError as error:
        assert words
        assert words in str(error)
    assert time.monotonic() - began < 5


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "t.csv", "wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr(csv_files, "LARGEST", 1 << 20)
    for reader in (lambda path: list(csv_files.records(path, "path")), read_manifest):
        with pytest.raises(ImgclfError, match=r"t.csv: larger than 1,048,576 bytes"):
            reader(tmp_path / "t.csv")
    assert read_bounded(write(tmp_path / "x", b"abc"), 3) == b"abc"
    with pytest.raises(ImgclfError, match="larger than 2 bytes"):
        read_bounded(tmp_path / "x", 2)


@pytest.mark.parametrize(
    "line", ["a/1.jpg,a,train,,", "a/1.jpg,a,train,,xyz", f"../1.jpg,..,train,,{'0' * 64}", f"a/1.jpg,a,other,,{'0' * 64}"]
)
def test_lines_that_no_manifest_has(line: str, tmp_path: Path) -> None:
    write(tmp_path / "split.csv", f"path,label,split,group,sha256\n{line}\n".encode())
    with pytest.raises(ImgclfError, match=r"split.csv, line 2: expected path,label"):
        read_manifest(tmp_path / "split.csv")


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "\uff1dx", "\uff20x", "'=1", "''-", "'@"])
def test_every_text_that_begins_like_a_formula_is_quoted_once(text: str) -> None:
    assert csv_files.cell(text) == f"'{text}"
    last = 1 + text.count("\n") + text.count("\r")
    assert list(csv_files.rows(csv_files.line([text, "b"]).encode())) == [(last, [text, "b"])]


@pytest.mark.parametrize("text", ["'", "'x", "1=", "x", "", "''", " =1", "'x=1"])
def test_other_texts_stay(text: str) -> None:
    assert csv_files.cell(text) == text
    assert list(csv_files.rows(csv_files.line([text, "b"]).encode())) == [(1, [text, "b"])]


def test_the_separator_is_that_of_the_needed_columns(tmp_path: Path) -> None:
    for separator in ",;\t":
        text = separator.join(("path, with; all\tof them".replace(separator, " "), "action", "path"))
        file = write(tmp_path / "t.csv", f"{text}\n{separator.join('123')}\n\n{separator * 2}\n".encode())
        ((number, row),) = csv_files.records(file, "path", "action")
        assert (number, row["action"], row["path"]) == (2, "2", "3")
    assert list(csv_files.rows(b"a;b,c;d\n")) == [(1, ["a", "b,c", "d"])], "the most fields, where no column is needed"
    assert list(csv_files.rows(b"a,b;c\n")) == [(1, ["a", "b;c"])], "the first of equal ones"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n", "needs the columns path and action, has a, b"),
        ("", "needs the columns path and action, has none"),
        ("path,action,x,x\n", "has the column x twice (path, action, x, x); remove one of them"),
        ("path,action\na\n", "line 2: 1 fields where the header has 2"),
        ("path,action\na,b,c\n", "line 2: 3 fields where the header has 2"),
        ("PK\x03\x04", "a workbook or archive, not a CSV file; save it as CSV (UTF-8)"),
        ("p" * 61 + "\n", "has " + "p" * 60),
        ("a\x07,b\n", "has a?, b"),
    ],
)
def test_what_is_wrong_with_a_header_or_a_row(content: str, words: str, tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", content.encode())
    with pytest.raises(ImgclfError) as error:
        list(csv_files.records(file, "path", "action"))
    assert str(error.value) == f"{file}, {words}" or str(error.value).endswith(words)
    assert str(error.value).startswith(str(file))


def test_columns_without_a_name_may_be_several_and_fields_behind_the_last_may_be_empty(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", b"path,,\na,,\nb,,,,\n")
    assert [row["path"] for _number, row in csv_files.records(file, "path")] == ["a", "b"]
    assert csv_files.not_utf8("a") == ""
    assert csv_files.not_utf8("a\udcff") == '; the file is not UTF-8: save it as "CSV UTF-8"'
    assert all(csv_files.not_utf8(half) for half in ("\ud800", "\udfff"))
    assert csv_files.not_utf8("\ue000\ud7ff") == ""
