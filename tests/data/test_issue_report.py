"""The registry of checks, the report of issues, and the groups that users name."""

import csv
from pathlib import Path

import pytest
from conftest import write

from imgclf.core.config import SplitConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.data import grouping, issue_report
from imgclf.data.checks import AUDIT_CHECKS, CHECKS, CLEAN_CHECKS, Issue
from imgclf.images import quality

ISSUE = Issue("a/1.png", "label", 0.123456, "words", "a/2.png", "a", "b", "relabel", "b/1.png")


def test_what_each_policy_moves() -> None:
    """What is moved without being asked for is a promise: copies, what is no image, and names with a wrong ending."""
    moved = {name: check.default for name, check in CHECKS.items() if check.default != "report"}
    assert moved == {"broken": "quarantine", "extension": "rename", "duplicate": "quarantine"}
    strict = {name: check.strict for name, check in CLEAN_CHECKS.items() if check.strict != "quarantine"}
    assert strict == {
        "extension": "rename",
        **dict.fromkeys(("unsupported", "missing-end", "trailing", "animated", "grayscale"), "report"),
    }
    assert set(AUDIT_CHECKS) == {"label", "outlier", "similar"}
    assert CHECKS == {**CLEAN_CHECKS, **AUDIT_CHECKS}
    assert list(CHECKS) == [check.name for check in CHECKS.values()]
    assert {other for check in CHECKS.values() for other in check.implied_by} <= {*quality.SCORES, *quality.SIZE_SCORES}
    assert {name for name, check in CHECKS.items() if check.detail} == {*quality.SCORES, *quality.SIZE_SCORES}
    assert {check.threshold for check in AUDIT_CHECKS.values()} == {None}
    assert Issue("p", "c", 1.0, "d") == Issue("p", "c", 1.0, "d", "", "", "", "report", "")


def test_the_columns_of_a_report(tmp_path: Path) -> None:
    rows = [issue_report.row(ISSUE, "b", ("PNG", 60, 40, 999)), issue_report.row(Issue("p", "dark", 1.0, "d", action="report"))]
    assert issue_report.write(tmp_path / "r.csv", rows) == []
    with open(tmp_path / "r.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "path": "a/1.png", "label": "a", "check": "label", "score": "0.1235", "action": "relabel", "new_label": "b",
        "suggestion": "b", "detail": "words", "other": "a/2.png", "moved_to": "b/1.png", "format": "PNG", "width": "60",
        "height": "40", "bytes": "999",
    }  # fmt: skip
    assert {name for name, value in second.items() if value} == {"path", "check", "score", "action", "detail"}


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ("a/1.png,report,", False), ("a/1.png,,", False), ("a/1.png,keep, ", False), ("a/1.png, Quarantine ,", True),
        ("a/1.png,rename,", True), ("a/1.png,relabel,", True), ("a/1.png,report,b", True), ("a,b,c,d,e", True),
    ],
)  # fmt: skip
def test_a_report_that_asks_for_moves_is_kept(line: str, asks: bool, tmp_path: Path) -> None:
    """So is one that cannot be understood."""
    path = write(tmp_path / "r.csv", f"path,action,new_label\n{line}\n".encode())
    before = path.read_bytes()
    notes = issue_report.write(path, [])
    assert notes == ([f"{path}: the older report requests moves, so it was renamed to {tmp_path / 'r-1.csv'}"] if asks else [])
    assert [file.name for file in sorted(tmp_path.iterdir())] == (["r-1.csv", "r.csv"] if asks else ["r.csv"])
    assert path.read_text() == ",".join(issue_report.COLUMNS) + "\n"
    if asks:
        assert (tmp_path / "r-1.csv").read_bytes() == before


def test_places_for_a_report(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    issue_report.check_place(tmp_path / "r.csv", data)
    issue_report.write(tmp_path / "r.csv", [])
    issue_report.check_place(tmp_path / "r.csv", data)
    write(tmp_path / "mine.csv", b"path,mine\n")
    (tmp_path / "folder.csv").mkdir()
    for place, words in (
        (tmp_path / "r.txt", "give --report a file name that ends in .csv"),
        (data / "r.csv", "is inside the data folder"),
        (tmp_path / "mine.csv", "exists and was not written by imgclf"),
        (tmp_path / "folder.csv", "exists and is not a regular file; choose another name"),
        (tmp_path / "none" / "r.csv", "is missing or cannot be written"),
    ):
        with pytest.raises(ImgclfError, match=words):
            issue_report.check_place(place, data)


# -- groups of the user -------------------------------------------------------------------------------------------------------

PATHS = ["a/p1_1.png", "a/p1_2.png", "b/p2_1.png", "b/x.png"]


def test_groups_by_what_a_pattern_captures() -> None:
    assert grouping.keys_by_regex(PATHS, "p([0-9])_") == {"a/p1_1.png": "1", "a/p1_2.png": "1", "b/p2_1.png": "2"}
    assert grouping.keys_by_regex(PATHS, "(a)/|p([0-9])") == {"a/p1_1.png": "a/", "a/p1_2.png": "a/", "b/p2_1.png": "/2"}
    assert grouping.keys_by_regex(["cafe\u0301/1"], "(caf\u00e9)") == {"cafe\u0301/1": "caf\u00e9"}
    for pattern, words in (
        ("(", "is not a valid regular expression"),
        ("p.", "has no capture group"),
        ("z(.)", "matches none of the 4 paths"),
    ):
        with pytest.raises(UsageError, match=words):
            grouping.keys_by_regex(PATHS, pattern)
    keys, notes = grouping.user_groups(PATHS, SplitConfig(group_by="p([0-9])_"))
    assert (len(keys), notes) == (3, ["groups from --group-by or --groups: 2; images without a group: 1"])
    assert grouping.user_groups(PATHS, SplitConfig()) == ({}, [])
    with pytest.raises(UsageError, match="cannot be used together"):
        grouping.user_groups(PATHS, SplitConfig(group_by="(a)", groups="g.csv"))


def test_groups_of_a_file(tmp_path: Path) -> None:
    def read(*lines: str) -> tuple[dict[str, str], list[str]]:
        path = write(tmp_path / "g.csv", "\n".join(["path,group", *lines]).encode())
        return grouping.user_groups(PATHS, SplitConfig(groups=str(path)))

    known = [f"{path},{path[0]}" for path in PATHS]
    assert read(*known) == (dict(zip(PATHS, "aabb", strict=True)), ["groups from --group-by or --groups: 2"])
    keys, notes = read(*known[:3], "b/x.png,", "c/2.png,c", "c/1.png,c", known[0])
    assert keys["c/1.png"] == "c"
    assert notes == [
        "groups from --group-by or --groups: 2; images without a group: 1",
        f"rows of {tmp_path / 'g.csv'} without a usable image: 2, the first is 'c/1.png'",
    ]
    with pytest.raises(ImgclfError, match=r"line 6: a/p1_1.png is in two groups, a and other"):
        read(*known, "a/p1_1.png,other")
    with pytest.raises(
        ImgclfError, match=r"none of its paths, such as 'c/1.png', is in the data folder; paths must look like 'a/p1_1.png'$"
    ):
        read("c/2.png,c", "c/1.png,c")
    with pytest.raises(ImgclfError, match=r"the file has no groups; paths must look like 'a/p1_1.png'$"):
        read("a/p1_1.png,")
    write(tmp_path / "u.csv", "path,group\ncafe\u0301/1,cafe\u0301\n".encode())
    assert grouping.keys_from_file(tmp_path / "u.csv", ["caf\u00e9/1"]) == {"caf\u00e9/1": "caf\u00e9"}
