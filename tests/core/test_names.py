"""Names of files and folders: numbers, spellings, and those that operating systems leave behind."""

import itertools
import os
import unicodedata
from pathlib import Path

import pytest
from conftest import write

from imgclf.core import names

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_a_free_name_has_the_lowest_number() -> None:
    taken = {"a.png", "a-2.png", "a-4.png"}
    assert names.free("a", ".png", taken.__contains__) == "a-3.png"
    assert names.free("b", ".png", taken.__contains__) == "b.png"
    assert names.free("other-v1.5", "", {"other-v1.5"}.__contains__) == "other-v1.5-2"
    assert list(itertools.islice(names.numbered("report", ".csv", 1), 2)) == ["report-1.csv", "report-2.csv"]
    assert next(names.numbered("report", ".csv")) == "report-2.csv"


def test_spellings() -> None:
    assert names.nfc(DECOMPOSED) == names.nfc(COMPOSED) == COMPOSED
    assert names.nfc("plain") == "plain"
    assert names.folded("CAFE\u0301") == names.folded(COMPOSED) == COMPOSED
    assert names.folded("STRASSE") == names.folded("Stra\u00dfe") == "strasse"
    assert names.folded("A\u0345") == names.nfc(names.folded("a\u0345"))
    assert names.by_spelling([f"{DECOMPOSED}/1", "a/1", f"{COMPOSED}/1"]) == {f"{COMPOSED}/1": f"{DECOMPOSED}/1", "a/1": "a/1"}
    assert names.collision(["b", "a", "B"]) is None
    assert names.collision(["x", COMPOSED, "a", DECOMPOSED]) == (DECOMPOSED, COMPOSED)


def test_a_path_as_it_is_spelled_on_disk(tmp_path: Path) -> None:
    """Each part on its own; what is not there in any spelling stays as it was given, from there on."""
    write(tmp_path / DECOMPOSED / COMPOSED / f"{DECOMPOSED}.png", b"")
    write(tmp_path / "plain" / f"{DECOMPOSED}.png", b"")
    for given, expected in (
        (f"{COMPOSED}/{DECOMPOSED}/{COMPOSED}.png", f"{DECOMPOSED}/{COMPOSED}/{DECOMPOSED}.png"),
        (f"{DECOMPOSED}/{COMPOSED}/{DECOMPOSED}.png", f"{DECOMPOSED}/{COMPOSED}/{DECOMPOSED}.png"),
        (f"plain/{COMPOSED}.png", f"plain/{DECOMPOSED}.png"),
        (f"{COMPOSED}/none/{COMPOSED}.png", f"{DECOMPOSED}/none/{COMPOSED}.png"),
        (f"none/{COMPOSED}/1.png", f"none/{COMPOSED}/1.png"),
        (f"{COMPOSED}/{DECOMPOSED}/{COMPOSED}.png/below", f"{DECOMPOSED}/{COMPOSED}/{DECOMPOSED}.png/below"),
        ("ascii/none.png", "ascii/none.png"),
    ):
        assert names.spelled(tmp_path, given) == expected


@pytest.mark.parametrize(
    "name", [*sorted(names.SYSTEM_FOLDERS), ".Trash-1000", ".", "System Volume Information", "@eaDir", "#RECYCLE"]
)
def test_foreign_folders(name: str) -> None:
    assert names.is_foreign_folder(name)
    assert not names.is_foreign_folder(f"my {name}")
    assert not names.is_foreign_folder(f"{name} 2") or name.startswith(".")


def test_foreign_files() -> None:
    assert {names.foreign_file(name) for name in ("Thumbs.db", "DESKTOP.INI", "Icon\r", "ehthumbs_vista.db")} == {
        "a system file"
    }
    assert {names.foreign_file(name) for name in ("._a.jpg", ".DS_Store")} == {"a hidden file"}
    assert {names.foreign_file(name) for name in ("a.jpg", "thumbs.db.png", "_a", "icon")} == {""}


def test_characters_that_nothing_can_open() -> None:
    """Of every character of the first plane: control characters, line and paragraph separators, halves of characters."""
    for number in range(0x10000):
        character = chr(number)
        kind, found = unicodedata.category(character), names.unreadable(f"a{character}b")
        expected = {
            "Cs": "bytes that are not UTF-8",
            **dict.fromkeys(("Cc", "Zl", "Zp"), f"a control character (U+{number:04X})"),
        }.get(kind, "")
        assert found == expected
    assert names.unreadable("a\tb\udcff") == "bytes that are not UTF-8"
    assert names.unreadable(os.fsdecode(b"\xff")) == "bytes that are not UTF-8"


def test_names_of_classes() -> None:
    for name in (" a", "a ", "\u00a0a"):
        assert names.problem(name) == "a space at the beginning or end"
    assert names.problem("a b") == ""
    assert names.problem(" a\n") == "a control character (U+000A)"
