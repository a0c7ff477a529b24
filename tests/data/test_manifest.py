"""Split manifests: what is in them, how they differ, what is refused, and what has changed since they were made."""

import csv
import hashlib
import io
from pathlib import Path

import pytest
from conftest import encoded, photo, write

from imgclf.core.config import Subset
from imgclf.core.errors import ImgclfError
from imgclf.data import manifest
from imgclf.data.dataset import Sample
from imgclf.data.manifest import Manifest, Row

HEAD = "path,label,split,group,sha256\n"


def row(path: str, split: Subset, content: str = "", label: str = "") -> Row:
    digest = hashlib.sha256((content or path).encode()).hexdigest()
    return Row(path, label or path.split("/")[0], split, digest[:12], digest)


ROWS = (row("a/1.png", "train"), row("a/2.png", "val"), row("b/1.png", "test"), row("b/2.png", "train"))


def test_a_manifest_is_plain_csv_and_is_read_as_it_was(tmp_path: Path) -> None:
    made = Manifest(ROWS)
    listed = list(csv.reader(io.StringIO(made.to_csv())))
    assert listed == [HEAD.strip().split(","), *([one.path, one.label, one.split, one.group, one.sha256] for one in ROWS)]
    path = tmp_path / "split.csv"
    path.write_text(made.to_csv())
    assert manifest.read_manifest(path) == made
    path.write_text(HEAD + "".join(reversed(made.to_csv().splitlines(keepends=True)[1:])))
    assert manifest.read_manifest(path) == made, "rows are sorted by path"
    assert made.class_names == ("a", "b")
    assert made.counts() == {"a": {"train": 1, "val": 1, "test": 0}, "b": {"train": 1, "val": 0, "test": 1}}
    assert made.subset(tmp_path, "train").samples == (Sample("a/1.png", "a"), Sample("b/2.png", "b"))
    assert made.subset(tmp_path, "val").class_names == ("a", "b")


def test_hashes_are_those_of_the_text_and_of_the_labelled_contents() -> None:
    made = Manifest(ROWS)
    assert made.hash == hashlib.sha256(made.to_csv().encode()).hexdigest()[:12]
    content = "\n".join(sorted(f"{one.label}\0{one.sha256}" for one in ROWS))
    assert made.fingerprint == hashlib.sha256(content.encode()).hexdigest()[:12]
    moved = Manifest((row("a/0.png", "test", "a/1.png"), *ROWS[1:]))
    assert (moved.hash == made.hash, moved.fingerprint == made.fingerprint) == (False, True)
    other = Manifest((row("a/1.png", "train", label="b"), *ROWS[1:]))
    assert other.fingerprint != made.fingerprint
    odd = Manifest((row("a\udcff/1.png", "train", "x"),))
    assert len(odd.hash) == len(odd.fingerprint) == 12


@pytest.mark.parametrize(
    "line",
    [
        "1.png,a,train,g,{digest}", "a/1.png,a/b,train,g,{digest}", "a/1.png,a,tests,g,{digest}", "a/1.png,a,train,g,{short}",
        "a/1.png,a,train,g,{upper}", "a/../1.png,a,train,g,{digest}", "a/./1.png,a,train,g,{digest}",
        "a//1.png,a,train,g,{digest}", "/a/1.png,a,train,g,{digest}", "a/1.png,..,train,g,{digest}",
        "a/1.png,,train,g,{digest}", "a/1\0.png,a,train,g,{digest}",
        "b/1.png,b,train,g,{digest}",
    ],
)  # fmt: skip
def test_lines_that_are_refused(line: str, tmp_path: Path) -> None:
    """The last has a path that is there already."""
    digest = "0123456789abcdef" * 4
    path = tmp_path / ".imgclf" / "split.csv"
    text = line.format(digest=digest, short=digest[1:], upper=digest.upper())
    write(path, f"{HEAD}b/1.png,b,train,g,{digest}\n{text}\n".encode())
    with pytest.raises(ImgclfError) as error:
        manifest.read_manifest(path)
    assert str(error.value) == (
        f"{path}, line 3: expected {HEAD.strip()} with split one of train, val, test, each path once; "
        f"fix it, or make a new one with `imgclf split {tmp_path} --force`"
    )


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    with pytest.raises(ImgclfError, match="no split yet; run `imgclf split FOLDER` first"):
        manifest.read_manifest(path)
    write(path, b"path,label\n")
    with pytest.raises(ImgclfError, match="not a split manifest: its first line is not path,label,split,group,sha256"):
        manifest.read_manifest(path)
    write(path, b"")
    with pytest.raises(ImgclfError, match="not a split manifest"):
        manifest.read_manifest(path)
    write(path, HEAD.encode() + b'"a')
    with pytest.raises(ImgclfError, match="fix it, or make a new one with `imgclf split FOLDER --force`"):
        manifest.read_manifest(path)


def test_where_manifests_lie(tmp_path: Path) -> None:
    state = tmp_path / ".imgclf"
    assert manifest.manifest_path(tmp_path) == state / "split.csv"
    assert manifest.fold_paths(tmp_path) == []
    for number in range(1, 11):
        write(state / "folds" / f"fold-{number}-of-10.csv", b"")
    write(state / "folds" / "fold-x-of-10.csv", b"")
    assert [path.name for path in manifest.fold_paths(tmp_path)] == [f"fold-{number}-of-10.csv" for number in range(1, 11)]
    (state / "folds" / "fold-10-of-10.csv").unlink()
    assert manifest.fold_paths(tmp_path) == []
    assert manifest.elsewhere_note(tmp_path) == []


def test_changes_since_a_split(tmp_path: Path) -> None:
    """Every kind at once; the notes name at most five files each."""
    contents = {
        f"{label}/{number}.png": encoded(photo(10 * "abc".index(label) + number), "PNG")
        for label in "abc"
        for number in range(7)
    }
    rows = [Row(path, path[0], "train", "g", hashlib.sha256(content).hexdigest()) for path, content in sorted(contents.items())]
    for path, content in contents.items():
        if path[0] != "c":
            write(tmp_path / path, content)
    for number in range(6):
        (tmp_path / f"a/{number}.png").unlink()
    (tmp_path / "b/0.png").rename(tmp_path / "b/new name.png")
    write(tmp_path / "b/1.png", encoded(photo(90), "PNG"))
    write(tmp_path / "b/2.png", b"<html>")
    write(tmp_path / "b/added.png", encoded(photo(91), "PNG"))
    write(tmp_path / "b/.hidden.png", encoded(photo(95), "PNG"))
    write(tmp_path / "d/1.png", encoded(photo(92), "PNG"))
    write(tmp_path / "d/2.png", encoded(photo(93), "PNG"))
    write(tmp_path / "e/1.png", encoded(photo(94), "PNG"))
    write(tmp_path / "e/page.png", b"<html>")
    told: list[tuple[int, int]] = []
    now, notes = manifest.current_manifest(tmp_path, Manifest(tuple(rows)), lambda *step: told.append(step))
    assert told[-1] == (13, 13)
    force, stable = f"`imgclf split {tmp_path} --force`", f"`imgclf split {tmp_path} --stable`"
    assert notes == [
        "images renamed or moved since the split: 1 (b/new name.png)",
        "images of the split that no longer exist (skipped): 13 (a/0.png, a/1.png, a/2.png, a/3.png, a/4.png, ...); "
        f"make a new split without them: {force}",
        "classes of the split that no longer have images: 1 (c)",
        "class folders added after the split (not used for training): d (2 images), e (1 image); "
        f"make a new split with them: {force}",
        f"images that are not in the split: 1 (b/added.png); make a new split with {force}, "
        f"or add them without changing the subsets of the others: {stable}",
        f"images skipped because they changed after the split: 1 (b/1.png); make a new split with them: {force}",
    ]
    kept = ["a/6.png", *(f"b/{number}.png" for number in range(2, 7)), "b/new name.png"]
    assert [one.path for one in now.rows] == kept, "what is no image any more is skipped when it is read"
    subsets, again = manifest.load_subsets(tmp_path, Manifest(tuple(rows)))
    assert again == notes
    assert {subset: len(found.samples) for subset, found in subsets.items()} == {"train": 7, "val": 0, "test": 0}
    assert {found.class_names for found in subsets.values()} == {("a", "b", "c")}


def test_files_that_were_renamed_or_moved_to_another_class_are_known_by_their_content() -> None:
    made = Manifest((row("a/1", "train", "x"), row("a/2", "test", "x"), row("b/1", "val", "y"), row("b/2", "val", "z")))
    hashes = {name: hashlib.sha256(name[0].encode()).hexdigest() for name in "xyz"}
    now, notes = manifest.with_renamed(
        made,
        {"a/3": "a", "b/4": "b", "c/1": "c", "b/2": "b", "b/5": "b"},
        {"a/3": hashes["x"], "b/4": hashes["x"], "c/1": hashes["y"], "b/5": hashes["z"]},
    )
    assert [(one.path, one.label, one.split) for one in now.rows] == [
        ("a/3", "a", "train"), ("b/1", "b", "val"), ("b/2", "b", "val"), ("b/4", "b", "test"),
    ]  # fmt: skip
    assert notes == ["images renamed or moved since the split: 2 (a/3, b/4)"]
    assert manifest.with_renamed(made, {one.path: one.label for one in made.rows}, {}) == (made, [])
    assert manifest.added_classes(made, ["a", "c", "d", "c"]) == "c (2 images), d (1 image)"


def test_paths_take_the_spelling_of_the_files() -> None:
    plain, composed = row("a/1", "train"), row("caf\u00e9/1", "val", label="caf\u00e9")
    there = ["a/1", "cafe\u0301/1"]
    assert [one.path for one in manifest.as_spelled(Manifest((plain, composed)), there).rows] == there
    kept = Manifest((plain, composed))
    assert manifest.as_spelled(kept, ["a/1", "caf\u00e9/1", "cafe\u0301/1"]) == kept
    assert manifest.as_spelled(kept, ["a/1"]) == kept
