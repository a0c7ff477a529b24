"""Tables as spreadsheets save them: what separates columns, byte order marks, UTF-16, columns twice."""

import re
from pathlib import Path

import pytest
from conftest import make_classes, write

from imgclf import clean, dataset, split
from imgclf.base import table
from imgclf.base.config import SplitConfig
from imgclf.base.errors import ImgclfError
from imgclf.learning.weights import class_weights

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
    assert [row for _line, row in table.records(file, "path", "action")] == expected


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
    assert [row for _line, row in table.records(write(tmp_path / "t.csv", content), "path", "action")] == [expected]


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
        list(table.records(write(tmp_path / "t.csv", content), "path", "action"))
    assert "\n" not in str(caught.value)


def test_every_table_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    """--apply, --groups, --class-weights and the split's manifest, each with semicolons, a byte order mark and CR LF."""
    data = make_classes(tmp_path / "data", {"a": 10, "b": 10}, size=8)

    def table_of(*lines: str) -> Path:
        return write(tmp_path / "t.csv", b"\xef\xbb\xbf" + "".join(f"{line}\r\n" for line in lines).encode())

    groups = table_of("group;path", *(f"{number // 5};a/{number:03d}.png" for number in range(10)))
    manifest = split.split(data, SplitConfig(groups=str(groups))).manifest
    assert len({row.group for row in manifest.rows if row.label == "a"}) == 2
    file = dataset.manifest_path(data)
    write(file, b"\xef\xbb\xbf" + file.read_bytes().replace(b",", b";").replace(b"\n", b"\r\n"))
    assert dataset.read_manifest(file) == manifest
    weights = class_weights(str(table_of("class;weight", "a;0,5", "b;1,5")), ("a", "b"), [10, 10])
    assert weights is not None and weights.tolist() == [0.5, 1.5]
    outcomes, _notes = clean.apply(data, table_of("path;action;new_label", "a/000.png;relabel;b", "a/001.png;quarantine;"))
    assert [outcome.moved_to for outcome in outcomes] == ["b/000-2.png", ".imgclf/quarantine/0001/a/001.png"]


def test_another_encoding_is_named(tmp_path: Path) -> None:
    """Excel's plain CSV is not UTF-8: a path with an umlaut is not found, and the line says why."""
    data = make_classes(tmp_path / "data", {"ä": 3, "b": 3}, size=8)
    report = write(tmp_path / "t.csv", "path;action\nä/000.png;quarantine\n".encode("cp1252"))
    with pytest.raises(ImgclfError, match=r'line 2: .* the file is not UTF-8: save it as "CSV UTF-8"'):
        clean.apply(data, report)
