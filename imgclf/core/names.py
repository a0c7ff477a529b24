"""Names of files and folders: Unicode forms, names that operating systems create, valid class names, free names."""

import itertools
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# Folders that operating systems, network disks and notebooks create. Names are compared in lower case.
SYSTEM_FOLDERS = {
    "lost+found", "system volume information", "$recycle.bin", "found.000",
    "#recycle", "@recycle", "#snapshot", "@recently-snapshot", "@eadir", "@tmp", "__macosx",
    "network trash folder", "temporary items",
}  # fmt: skip
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"}


def is_foreign_folder(name: str) -> bool:
    """Return whether a folder is hidden (`.Trash-1000`, `.ipynb_checkpoints`) or a system folder. It is never a class."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def foreign_file(name: str) -> str:
    """Return why a file with this name is ignored (`Thumbs.db`, `.DS_Store`, AppleDouble's `._x.jpg`); "" if it is not."""
    if name.lower() in SYSTEM_FILES:
        return "a system file"
    return "a hidden file" if name.startswith(".") else ""


def nfc(name: str) -> str:
    """Return the composed Unicode form (NFC), to compare names: macOS stores `é` as two characters, Linux as typed."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return a name in the form that file systems compare if they ignore case and Unicode form (macOS, Windows)."""
    return nfc(nfc(name).casefold())


def spelled(root: Path, path: str) -> str:
    """Return a relative path in the Unicode form that is used on disk, component by component."""
    if path.isascii() or os.path.lexists(root / path):
        return path
    here, pieces = "", path.split("/")
    for number, piece in enumerate(pieces):
        if not os.path.lexists(root / here / piece):
            try:
                same = [name for name in os.listdir(root / here) if nfc(name) == nfc(piece)]
            except OSError:
                same = []
            if not same:
                return here + "/".join(pieces[number:])
            piece = same[0]
        here += piece + "/"
    return here[:-1]


def by_spelling(paths: Iterable[str]) -> dict[str, str]:
    """Map the NFC form of each path to the path. If two paths have the same form, the first one is used."""
    found: dict[str, str] = {}
    for path in paths:
        found.setdefault(nfc(path), path)
    return found


def collision(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that differ only in Unicode form, such as `é` as one or two characters; None if there are none."""
    found: dict[str, str] = {}
    for name in sorted(names):
        if found.setdefault(nfc(name), name) != name:
            return found[nfc(name)], name
    return None


def unreadable(text: str) -> str:
    """Describe characters that TensorFlow cannot open in a path or that would break a line of text; "" if there are none."""
    kinds = {unicodedata.category(character): character for character in text}
    if "Cs" in kinds:
        return "bytes that are not UTF-8"
    bad = next((kinds[kind] for kind in ("Cc", "Zl", "Zp") if kind in kinds), None)
    return f"a control character (U+{ord(bad):04X})" if bad else ""


def problem(name: str) -> str:
    """Return why a folder name is not a valid class name; "" if it is."""
    return unreadable(name) or ("a space at the beginning or end" if name != name.strip() else "")


def free(stem: str, ending: str, is_taken: Callable[[str], bool]) -> str:
    """Return the name `stem` + `ending`, or the first of stem-2, stem-3 and so on with this ending that is not taken."""
    return next(name for name in itertools.chain([stem + ending], numbered(stem, ending)) if not is_taken(name))


def numbered(stem: str, ending: str, start: int = 2) -> Iterator[str]:
    """Yield the names stem-2, stem-3 and so on, each with the ending."""
    return (f"{stem}-{number}{ending}" for number in itertools.count(start))
