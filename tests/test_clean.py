"""Test clean: every file is accounted for, nothing is lost, everything can be undone, a second run changes nothing."""

import csv
import json
import os
import re
import socket
from pathlib import Path

import pytest
from conftest import Run, bomb, encoded, make_classes, photo, tree, write
from planted import all_at_once, cropped, plant, recompressed, scene

from imgclf.clean import applying, cleaning, undoing, writing
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.data import issue_report
from imgclf.data.checks import CHECKS, CLEAN_CHECKS


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make two classes with one issue of every kind for which a file is moved."""
    root = tmp_path / "data"
    jpeg, png = encoded(photo(1, 90, 70)), encoded(photo(2), "PNG")
    flipped = bytearray(png)
    flipped[len(flipped) // 2] ^= 1
    for name, content in {
        "cats/good.jpg": jpeg,
        "cats/deep/inside/good copy.JPEG": jpeg,
        "cats/photo.webp": encoded(photo(3), "WEBP"),
        "cats/photo.avif": encoded(photo(4), "AVIF"),
        "cats/photo.tif": encoded(photo(5), "TIFF"),
        "cats/truncated.jpg": jpeg[: len(jpeg) // 2],
        "cats/empty.jpg": b"",
        "cats/page.jpg": b"<!DOCTYPE html><html></html>",
        "cats/notes.txt": b"remember the milk",
        "cats/.hidden.jpg": jpeg,
        "cats/Thumbs.db": b"x",
        "cats/.trash/old.jpg": jpeg,
        "dogs/really-a-jpeg.png": encoded(photo(6)),
        "dogs/no-extension": encoded(photo(7), "PNG"),
        "dogs/really-webp.jpg": encoded(photo(8), "WEBP"),
        "dogs/IMG.2021": encoded(photo(9), "PNG"),
        "dogs/taken.png": encoded(photo(10), "PNG"),
        "dogs/taken.jpg": encoded(photo(11), "PNG"),
        "dogs/flipped.png": bytes(flipped),
        "dogs/bomb.png": bomb(),
        "readme.md": b"# about",
        ".DS_Store": b"x",
        ".cache/thing.jpg": jpeg,
    }.items():
        write(root / name, content)
    return root


EXPECTED = {
    "cats/deep/inside/good copy.JPEG": ("quarantined", "duplicate", ".imgclf/quarantine/0001/cats/deep/inside/good copy.JPEG"),
    "cats/empty.jpg": ("quarantined", "broken", ".imgclf/quarantine/0001/cats/empty.jpg"),
    "cats/notes.txt": ("quarantined", "broken", ".imgclf/quarantine/0001/cats/notes.txt"),
    "cats/page.jpg": ("quarantined", "broken", ".imgclf/quarantine/0001/cats/page.jpg"),
    "cats/truncated.jpg": ("quarantined", "broken", ".imgclf/quarantine/0001/cats/truncated.jpg"),
    "dogs/IMG.2021": ("renamed", "extension", "dogs/IMG.2021.png"),
    "dogs/bomb.png": ("quarantined", "broken", ".imgclf/quarantine/0001/dogs/bomb.png"),
    "dogs/flipped.png": ("quarantined", "broken", ".imgclf/quarantine/0001/dogs/flipped.png"),
    "dogs/no-extension": ("renamed", "extension", "dogs/no-extension.png"),
    "dogs/really-a-jpeg.png": ("renamed", "extension", "dogs/really-a-jpeg.jpg"),
    "dogs/really-webp.jpg": ("renamed", "extension", "dogs/really-webp.webp"),
    "dogs/taken.jpg": ("renamed", "extension", "dogs/taken-2.png"),
}
IGNORED = {".DS_Store", ".cache/thing.jpg", "cats/.hidden.jpg", "cats/.trash/old.jpg", "cats/Thumbs.db", "readme.md"}
COUNTS = {"kept": 5, "renamed": 5, "quarantined": 7, "ignored": 6, "stuck": 0, "reported": 0}


def found(result: cleaning.Cleaning) -> dict[str, tuple[str, str, str]]:
    return {issue.path: (issue.action, issue.check, issue.moved_to) for issue in result.issues}


def test_every_file_is_accounted_for(data: Path) -> None:
    before = tree(data)
    result = cleaning.clean(data)
    assert found(result) == EXPECTED
    assert {path for path, _rule in result.ignored} == IGNORED
    assert {file.path for file in result.files} | IGNORED == set(before)
    assert result.counts() == COUNTS
    for name, content in before.items():
        assert (data / EXPECTED.get(name, ("", "", ""))[2] if name in EXPECTED else data / name).read_bytes() == content


def test_a_dry_run_moves_nothing(data: Path) -> None:
    before = tree(data)
    result = cleaning.clean(data, dry_run=True)
    future = {"quarantined": "quarantine", "renamed": "rename"}
    assert found(result) == {path: (future[action], *rest) for path, (action, *rest) in EXPECTED.items()}
    assert result.counts() == COUNTS
    assert tree(data) == before
    assert not (data / ".imgclf" / "journal").exists()


def test_a_second_run_reads_and_changes_nothing(data: Path) -> None:
    first = cleaning.clean(data)
    assert first.scanned.read == 17
    after = tree(data)
    second = cleaning.clean(data)
    assert second.counts() == {"kept": 10, "renamed": 0, "quarantined": 0, "ignored": 6, "stuck": 0, "reported": 0}
    assert second.scanned.read == 0
    assert tree(data) == after


def test_undo_restores_everything(data: Path) -> None:
    before = tree(data)
    cleaning.clean(data)
    restored, problems, notes = undoing.undo(data)
    assert (problems, notes) == ([], [])
    assert sorted(restored) == sorted(EXPECTED)
    assert tree(data) == before
    assert found(cleaning.clean(data, dry_run=True)).keys() == EXPECTED.keys()


def test_two_cleans_then_undo(data: Path) -> None:
    before = tree(data)
    cleaning.clean(data)
    write(data / "cats/page.jpg", b"<html>again</html>")  # the same name is quarantined a second time
    cleaning.clean(data)
    assert (data / ".imgclf/quarantine/0002/cats/page.jpg").read_bytes() == b"<html>again</html>"
    _restored, problems, _notes = undoing.undo(data)
    # The newest file is restored first. It takes the place of the older one, which stays in quarantine and is named.
    assert len(problems) == 1
    assert "cats/page.jpg" in problems[0]
    assert tree(data) == {**before, "cats/page.jpg": b"<html>again</html>"}
    assert (data / ".imgclf/quarantine/0001/cats/page.jpg").read_bytes() == before["cats/page.jpg"]


def test_one_operation_is_undone_by_its_number(data: Path) -> None:
    cleaning.clean(data)
    write(data / "cats/late.jpg", b"")
    cleaning.clean(data)
    found = [(one.number, one.command, len(one.moves), one.state) for one in undoing.history(data)]
    assert found == [(1, "clean", 12, "done"), (2, "clean", 1, "done")]
    restored, problems, _notes = undoing.undo(data, 2)
    assert (restored, problems) == (["cats/late.jpg"], [])
    assert [operation.state for operation in undoing.history(data)] == ["done", "undone"]
    for dry_run in (True, False):
        with pytest.raises(ImgclfError, match="no operation 2 to undo; --history lists them"):
            undoing.undo(data, 2, dry_run=dry_run)


def test_operations_are_undone_in_any_order_or_the_one_to_undo_first_is_named(data: Path) -> None:
    before = tree(data)
    cleaning.clean(data)  # renames dogs/taken.jpg, which is a PNG
    write(data.parent / "r.csv", b"path,action\ndogs/taken-2.png,Quarantine\n")
    applying.apply(data, data.parent / "r.csv")
    _restored, problems, _notes = undoing.undo(data, 1)
    (problem,) = problems
    assert problem.startswith("dogs/taken-2.png cannot be moved back to ")
    assert problem.endswith("operation 2 (clean --apply) moved it again; undo that first")
    planned, _problems, _notes = undoing.undo(data, dry_run=True)
    restored, problems, _notes = undoing.undo(data)
    assert problems == []
    assert sorted(planned) == sorted(restored)
    assert tree(data) == before


def test_an_interrupted_operation_lists_the_moves_that_were_made(data: Path) -> None:
    cleaning.clean(data)
    undoing.undo(data)
    state = data / ".imgclf"
    moves = [[path, f".imgclf/quarantine/0009/{path}", "1 1 1"] for path in ("cats/good.jpg", "dogs/x.jpg")]
    write(state / "journal" / "0009-clean.doing.json", json.dumps({"format": 2, "how": "move", "moves": moves}).encode())
    write(data / moves[0][1], b"moved before the kill")
    last = undoing.history(data)[-1]
    assert (last.number, last.state, [move.source for move in last.moves]) == (9, "interrupted", ["cats/good.jpg"])


# -- issues -----------------------------------------------------------------------------------------------------------


def test_planted_faults_are_found_and_nothing_else(tmp_path: Path) -> None:
    """The data has more than 200 files, and for each file the correct result of every check is known."""
    expected = plant(tmp_path)
    result = cleaning.clean(tmp_path, dry_run=True)
    assert len(result.files) >= 250
    found: dict[str, set[str]] = {}
    for issue in result.issues:
        found.setdefault(issue.path, set()).add(issue.check)
    assert found == expected
    assert set().union(*expected.values()) == set(CLEAN_CHECKS) - {"leakage"}
    by_check = result.by_check()
    for issues in by_check.values():
        scores = [issue.score for issue in issues]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
    actions = {check: {issue.action for issue in issues} for check, issues in by_check.items()}
    assert actions == {check: {CHECKS[check].default} for check in actions}


def test_copies_name_what_they_were_compared_with(tmp_path: Path) -> None:
    plant(tmp_path)
    issues = cleaning.clean(tmp_path, dry_run=True).issues
    for issue in issues:
        if issue.check in ("near-duplicate", "mirrored"):
            assert issue.other == re.sub(r" copy.jpg$", ".png", issue.path)
        elif issue.check == "conflict":
            kind = Path(issue.path).stem
            assert Path(issue.other).stem == kind
            assert issue.other.split("/")[0] != issue.path.split("/")[0]
        elif issue.check == "duplicate":
            assert Path(issue.other).stem[:6] == Path(issue.path).stem[:6] or issue.path == "dog/no-exif.jpg"
        else:
            assert issue.other == ""


def test_policies_and_actions(tmp_path: Path) -> None:
    plant(tmp_path)

    def moved(**options: object) -> set[str]:
        issues = cleaning.clean(tmp_path, dry_run=True, **options).issues  # type: ignore[arg-type]
        return {issue.check for issue in issues if issue.moved_to}

    assert moved() == {"broken", "extension", "duplicate"}
    assert moved(policy="report") == set()
    assert moved(policy="strict") == set(CLEAN_CHECKS) - {
        "unsupported",
        "leakage",
        "missing-end",
        "trailing",
        "animated",
        "grayscale",
    }
    assert moved(policy="report", on={"blurry": "quarantine"}) == {"blurry"}
    assert moved(on={"broken": "report", "extension": "ignore"}) == {"duplicate"}
    ignoring = cleaning.clean(tmp_path, dry_run=True, on={"grayscale": "ignore"})
    assert "grayscale" not in ignoring.by_check()


def test_a_lower_threshold_never_finds_fewer_files(tmp_path: Path) -> None:
    """This also holds for the checks that compare with the rest of the folder; here a third of it is soft, small and grey."""
    for number in range(30):
        image = scene(number)
        if number % 3 == 0:
            image = image.convert("L").resize((20 + number, 20 + number))
        write(tmp_path / "cats" / f"{number}.png", encoded(image, "PNG"))
    for name in ("blurry", "tiny", "grayscale", "dark", "low-contrast"):
        default = CHECKS[name].threshold or 0
        found = [
            {o.path for o in cleaning.clean(tmp_path, dry_run=True, thresholds=given).issues if o.check == name}
            for given in ({}, {name: default}, {name: default - 0.2}, {name: 0.0})
        ]
        assert found[0] <= found[1] <= found[2] <= found[3]
        assert len(found[3]) > 15


def test_the_threshold_of_near_duplicates_can_be_raised(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / "cats" / f"{seed}.jpg", encoded(scene(seed)))
        write(tmp_path / "cats" / f"{seed} copy.jpg", (recompressed, cropped, all_at_once)[seed](scene(seed)))
    scores = {one.path: one.score for one in cleaning.clean(tmp_path, dry_run=True).issues}
    assert len(scores) == 3
    least = sorted(scores.values())[1]
    some = cleaning.clean(tmp_path, dry_run=True, thresholds={"near-duplicate": least - 1e-4})
    assert [one.score for one in some.issues] == sorted(scores.values())[:0:-1]
    assert len(cleaning.clean(tmp_path, dry_run=True).issues) == 3


def test_strict_keeps_one_copy_of_each_image(tmp_path: Path) -> None:
    """In a chain of near-duplicates, an image stays if the image that it resembles is moved. The same holds for copies."""
    for number in range(4):
        image = scene(1).crop((7 * number, 4 * number, 240 - 7 * number, 180 - 4 * number))
        write(tmp_path / "cats" / f"{number}.jpg", encoded(image.resize((240 - number, 180)), quality=92))
    write(tmp_path / "cats" / "other.jpg", encoded(scene(2)))
    result = cleaning.clean(tmp_path, policy="strict")
    gone = {one.path for one in result.issues if one.action == "quarantined"}
    assert result.issues
    assert all(one.other not in gone for one in result.issues if one.action == "quarantined")

    write(tmp_path / "dogs" / "good.jpg", encoded(scene(3)))
    write(tmp_path / "dogs" / "more bytes.jpg", encoded(scene(3)) + b"trailing")
    trailing = cleaning.clean(tmp_path, on={"trailing": "quarantine"})
    assert {one.path for one in trailing.issues if one.action == "quarantined"} == {"dogs/more bytes.jpg"}
    assert trailing.images["dogs"] == (2, 1)


def test_an_empty_class_folder_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "cats" / "1.jpg", encoded(scene(1)))
    (tmp_path / "dogs").mkdir()
    assert cleaning.clean(tmp_path).notes == ("the class folder dogs holds no image",)


def test_thresholds(tmp_path: Path) -> None:
    plant(tmp_path)
    strict = cleaning.clean(tmp_path, dry_run=True, thresholds={"dark": 0.0, "bright": 1.0}).by_check()
    assert "bright" not in strict
    assert len(strict["dark"]) > 200
    refused = ({"broken": 0.5}, "has no threshold"), ({"dark": 1.5}, "a score from 0 to 1"), ({"x": 0.5}, "unknown check 'x'")
    for wrong, words in refused:
        with pytest.raises(UsageError, match=words):
            cleaning.clean(tmp_path, thresholds=wrong)
    for wrong_action in ({"dark": "rename"}, {"dark": "delete"}, {"darkness": "report"}):
        with pytest.raises(UsageError, match=r"unknown (action|check)"):
            cleaning.clean(tmp_path, on=wrong_action)


def test_soft_small_or_grey_images_are_no_issue_if_all_images_are_so(tmp_path: Path) -> None:
    from PIL import ImageFilter

    for number in range(12):
        soft = scene(number).filter(ImageFilter.GaussianBlur(5)).convert("L").resize((24, 18))
        write(tmp_path / "cats" / f"{number}.png", encoded(soft, "PNG"))
    assert cleaning.clean(tmp_path).issues == ()


def test_the_better_copy_is_kept(tmp_path: Path) -> None:
    image = scene(1)
    write(tmp_path / "cats" / "a small.jpg", encoded(image.resize((120, 90))))
    write(tmp_path / "cats" / "z large.jpg", encoded(image))
    (near,) = cleaning.clean(tmp_path, policy="strict").issues
    assert (near.path, near.check, near.action, near.other) == (
        "cats/a small.jpg",
        "near-duplicate",
        "quarantined",
        "cats/z large.jpg",
    )


def test_with_copies_in_several_subsets_the_one_in_the_test_set_is_kept(tmp_path: Path) -> None:
    content = encoded(scene(1))
    for subset in ("train", "test"):
        write(tmp_path / subset / "cats" / "1.jpg", content)
        write(tmp_path / subset / "cats" / f"{subset}.jpg", encoded(scene(2 if subset == "train" else 3)))
    write(tmp_path / "train" / "cats" / "1 copy.jpg", content)
    result = cleaning.clean(tmp_path)
    assert [(issue.path, issue.check, issue.action, issue.other) for issue in result.issues] == [
        ("train/cats/1 copy.jpg", "duplicate", "quarantined", "train/cats/1.jpg"),
        ("train/cats/1 copy.jpg", "leakage", "reported", "test/cats/1.jpg"),
        ("train/cats/1.jpg", "leakage", "reported", "test/cats/1.jpg"),
    ]
    (again,) = cleaning.clean(tmp_path, on={"leakage": "quarantine"}).issues
    assert (again.path, again.action) == ("train/cats/1.jpg", "quarantined")


def test_a_link_is_not_a_copy(tmp_path: Path) -> None:
    """If a file with a link were quarantined as a copy, its only content would be gone."""
    write(tmp_path / "cats" / "z/really here.jpg", encoded(scene(1)))
    (tmp_path / "cats" / "a.jpg").symlink_to("z/really here.jpg")
    (tmp_path / "cats" / "b").symlink_to(tmp_path / "other")
    write(tmp_path / "other" / "1.jpg", encoded(scene(2)))
    before = tree(tmp_path)
    result = cleaning.clean(tmp_path, policy="strict")
    assert tree(tmp_path) == before
    assert [(issue.path, issue.check, issue.action) for issue in result.issues] == [
        ("cats/a.jpg", "duplicate", "reported"),
        ("cats/b/1.jpg", "conflict", "reported"),
        ("other/1.jpg", "conflict", "reported"),
    ]


def test_the_target_of_a_link_is_not_moved(tmp_path: Path) -> None:
    """The targets are a misnamed file and a copy. If they were moved, their links would be broken."""
    first, second = encoded(scene(1)), encoded(scene(2))
    for name, content in (("a/1.png", first), ("a/2.jpg", second), ("a/z/copy.jpg", second), ("a/3.png", encoded(scene(3)))):
        write(tmp_path / name, content)
    (tmp_path / "a" / "link.jpg").symlink_to("between")
    (tmp_path / "a" / "between").symlink_to("../a/1.png")
    (tmp_path / "a" / "to a copy.jpg").symlink_to(tmp_path / "a" / "z" / "copy.jpg")
    result = cleaning.clean(tmp_path)
    actions = {(one.path, one.check): one.action for one in result.issues}
    assert actions[("a/1.png", "extension")] == actions[("a/between", "extension")] == "reported"
    assert actions[("a/z/copy.jpg", "duplicate")] == "reported"
    assert [one.moved_to for one in result.issues if one.moved_to] == ["a/3.jpg"]
    assert not any(one.moved_to for one in cleaning.clean(tmp_path).issues)
    assert all((tmp_path / "a" / name).exists() for name in ("link.jpg", "between", "to a copy.jpg"))


def test_an_image_that_cannot_be_read_is_not_moved(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lack of memory or permission, or a network error, is not an issue of the image."""

    def out_of_memory(*_arguments: object) -> None:
        raise MemoryError

    from imgclf.images import decode

    before = tree(data)
    with monkeypatch.context() as patch:
        patch.setattr(decode.cv2, "imdecode", out_of_memory)
        result = cleaning.clean(data)
    assert {issue.path for issue in result.issues if issue.action == "stuck"} == {
        "cats/good.jpg", "cats/deep/inside/good copy.JPEG", "cats/truncated.jpg", "dogs/really-a-jpeg.png"}  # fmt: skip
    assert (data / "cats/good.jpg").read_bytes() == before["cats/good.jpg"]
    again = cleaning.clean(data)  # the next run inspects these files again
    assert {issue.path for issue in again.issues if issue.moved_to} == {
        "cats/truncated.jpg", "cats/deep/inside/good copy.JPEG", "dogs/really-a-jpeg.png"}  # fmt: skip


def test_odd_files(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for seed, name in enumerate(("-dash.jpg", "line\nbreak.jpg", "猫.jpg", os.fsdecode(b"caf\xe9.jpg"), "a" * 250 + ".jpg")):
        write(root / "cats" / name, encoded(photo(seed)))
    (root / "cats" / "dangling.jpg").symlink_to("nowhere.jpg")
    (root / "cats" / "loop.jpg").symlink_to("loop.jpg")
    (root / "cats" / "linked.jpg").symlink_to("-dash.jpg")
    (root / "cats" / "again").symlink_to(root / "cats")
    os.mkfifo(root / "cats" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "cats" / "socket"))
        result = cleaning.clean(root)
    assert [issue.path for issue in result.issues if issue.action == "quarantined"] == [
        "cats/dangling.jpg", "cats/loop.jpg", "cats/pipe.jpg", "cats/socket"]  # fmt: skip
    assert result.counts()["kept"] == 6
    undoing.undo(root)
    assert os.readlink(root / "cats" / "dangling.jpg") == "nowhere.jpg"
    assert (root / "cats" / "pipe.jpg").is_fifo()


def test_two_files_that_would_get_the_same_new_name(tmp_path: Path) -> None:
    for name in ("pic", "pic.png", "pic.webp"):
        write(tmp_path / "cats" / name, encoded(photo(1)))
    issues = cleaning.clean(tmp_path, dry_run=True, on={"duplicate": "ignore"}).issues
    assert [(issue.path, issue.moved_to) for issue in issues] == [
        ("cats/pic", "cats/pic.jpg"), ("cats/pic.png", "cats/pic-2.jpg"), ("cats/pic.webp", "cats/pic-3.jpg")]  # fmt: skip


def test_files_that_cannot_be_moved_are_reported_as_stuck(tmp_path: Path, imgclf: Run) -> None:
    """With a file in the place of the quarantine folder, nothing is moved or overwritten, and the error is reported."""
    write(tmp_path / "data" / "cats" / "good.jpg", encoded(photo(1)))
    write(tmp_path / "data" / "dogs" / "bad.jpg", b"")
    write(tmp_path / "data" / ".imgclf" / "quarantine", b"mine")
    before = tree(tmp_path / "data")
    done = imgclf("clean", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["counts"] == {"kept": 1, "renamed": 0, "quarantined": 0, "ignored": 0, "stuck": 1, "reported": 0}
    (stuck,) = document["issues"]
    assert (stuck["path"], stuck["action"], stuck["moved_to"]) == ("dogs/bad.jpg", "stuck", "")
    assert "could not be moved: " in stuck["detail"]
    assert tree(tmp_path / "data") == before
    assert (tmp_path / "data" / ".imgclf" / "quarantine").read_bytes() == b"mine"


def test_files_in_a_linked_folder_are_only_reported(tmp_path: Path) -> None:
    """A broken file with two paths is moved once, from the folder that really contains it."""
    write(tmp_path / "data" / "cats" / "good.jpg", encoded(photo(1)))
    write(tmp_path / "data" / "dogs" / "good.jpg", encoded(photo(2)))
    write(tmp_path / "data" / "cats" / "bad.jpg", b"")
    (tmp_path / "data" / "dogs" / "link").symlink_to(tmp_path / "data" / "cats")
    before = tree(tmp_path / "data")
    result = cleaning.clean(tmp_path / "data")
    assert {one.path: one.action for one in result.issues if one.check == "broken"} == {
        "cats/bad.jpg": "quarantined", "dogs/link/bad.jpg": "reported",
    }  # fmt: skip
    undoing.undo(tmp_path / "data")
    assert tree(tmp_path / "data") == before


def test_a_folder_with_subset_folders(tmp_path: Path) -> None:
    for seed, subset in enumerate(("train", "validation", "test")):
        write(tmp_path / subset / "cats" / "1.jpg", encoded(photo(seed)))
    write(tmp_path / "train" / "LICENSE", b"CC0")
    write(tmp_path / "test" / "cats" / "2.jpg", b"<html>")
    result = cleaning.clean(tmp_path)
    assert found(result) == {"test/cats/2.jpg": ("quarantined", "broken", ".imgclf/quarantine/0001/test/cats/2.jpg")}
    assert result.ignored == (("train/LICENSE", "not in a class folder"),)
    assert result.counts()["kept"] == 3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: write(root, b"x"), "a file, not a folder"),
        (lambda root: root.mkdir(), "no class folders; it is empty"),
        (lambda root: write(root / "1.jpg", encoded(photo(1))), r"no class folders; it contains files such as 1.jpg directly"),
        (lambda root: write(root / "bad\nname" / "1.jpg", b"x"), r"the name of the class folder 'bad\\nname' contains"),
    ],
)
def test_bad_folders_are_named(make: object, words: str, tmp_path: Path) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises(ImgclfError, match=words):
        cleaning.clean(tmp_path / "data")


def test_an_earlier_report_with_actions_is_kept(data: Path) -> None:
    report = data.parent / "r.csv"
    result = cleaning.clean(data)
    assert writing.write_report(result, report) == []
    assert writing.write_report(result, report) == []  # it requests no action
    edited = report.read_text(encoding="utf-8", errors="surrogateescape").replace(",kept,", ",quarantine,", 1)
    report.write_text(edited, encoding="utf-8", errors="surrogateescape")
    (note,) = writing.write_report(result, report)
    assert note.endswith("r-1.csv")
    assert (data.parent / "r-1.csv").read_text(encoding="utf-8", errors="surrogateescape") == edited
    words = [line.split(",")[2] for line in report.read_text(encoding="utf-8", errors="surrogateescape").splitlines()[1:]]
    assert words.index("") == sum(word != "" for word in words)  # issues first


# -- an edited report -------------------------------------------------------------------------------------------------


def edited(report: Path, changes: dict[str, tuple[str, str]]) -> Path:
    """Change the actions and new labels of some paths in a report."""
    with open(report, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["action"], row["new_label"] = changes.get(row["path"], (row["action"], ""))
    with open(report, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, issue_report.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return report


def test_an_edited_report_is_applied_and_undone(data: Path, imgclf: Run) -> None:
    before = tree(data)
    assert imgclf("clean", "--policy", "report", "--report", "r.csv").returncode == 0
    assert tree(data) == before
    changes = {
        "cats/good.jpg": ("relabel", "dogs"),
        "cats/photo.tif": ("quarantine", ""),
        "dogs/taken.png": ("relabel", "cats"),
    }
    edited(data.parent / "r.csv", changes)
    write(data / "cats/taken.png", b"in the way")
    planned = imgclf("clean", "--apply", "r.csv", "--dry-run")
    assert (planned.returncode, planned.stdout.splitlines()[-1]) == (0, "3 files to be moved")
    done = imgclf("clean", "--apply", "r.csv", "--json")
    assert {move["path"]: (move["action"], move["moved_to"]) for move in json.loads(done.stdout)["moves"]} == {
        "cats/good.jpg": ("relabelled", "dogs/good.jpg"),
        "cats/photo.tif": ("quarantined", ".imgclf/quarantine/0001/cats/photo.tif"),
        "dogs/taken.png": ("relabelled", "cats/taken-2.png"),
    }
    assert (data / "dogs/good.jpg").read_bytes() == before["cats/good.jpg"]
    done = imgclf("clean", "--history", "--json")
    assert [(one["number"], one["command"], len(one["moves"])) for one in json.loads(done.stdout)] == [
        (1, "clean --apply", 3)]  # fmt: skip
    assert imgclf("clean", "--undo", "1").stdout == "3 files back where they were\n"
    assert tree(data) == {**before, "cats/taken.png": b"in the way"}


def test_the_report_after_a_clean_requests_no_action(data: Path) -> None:
    writing.write_report(cleaning.clean(data, policy="report"), data.parent / "r.csv")
    assert applying.apply(data, data.parent / "r.csv") == ([], [])
    writing.write_report(cleaning.clean(data), data.parent / "r.csv")
    assert applying.apply(data, data.parent / "r.csv", dry_run=True) == ([], [])


def test_the_report_of_a_dry_run_requests_the_actions_of_clean(data: Path) -> None:
    writing.write_report(cleaning.clean(data, dry_run=True), data.parent / "r.csv")
    issues, _notes = applying.apply(data, data.parent / "r.csv")
    assert {issue.path: (issue.action, issue.moved_to) for issue in issues} == {
        path: (action, target) for path, (action, _check, target) in EXPECTED.items()}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs the columns path and action, has none"),
        ("path;action\ncats/good.jpg;move\n", "line 2: unknown action 'move'"),
        ("path,action,action\ncats/good.jpg,keep,keep\n", "has the column action twice"),
        ("path,what\ncats/good.jpg,x\n", "needs the columns path and action, has path, what"),
        ("path,action\ncats/good.jpg\n", "line 2: 1 fields where the header has 2"),
        (
            "path,action\ncats/good.jpg,quarentine\n",
            "line 2: unknown action 'quarentine'; choose quarantine, relabel, rename, or keep",
        ),
        ("path,action\ncats/notes.txt,rename\n", "cats/notes.txt: cannot be renamed: not an image"),
        ("path,action\ncats/gone.jpg,quarantine\n", "line 2: cats/gone.jpg: no such file"),
        ("path,action\n../x.jpg,quarantine\n", r"line 2: ../x.jpg: no such file"),
        ("path,action\nreadme.md,quarantine\n", "line 2: readme.md: no such file in a class folder"),
        ("path,action,new_label\ncats/good.jpg,relabel,birds\n", "'birds', which is not a class folder; choose cats, dogs"),
        ("path,action,new_label\ncats/good.jpg,relabel,cats\n", "is in cats already"),
        ("path,action,new_label\ncats/good.jpg,kept,dogs\n", "new_label is 'dogs', but the action is 'kept', not relabel"),
        ("path,action,new_label\ncats/good.jpg,relabel,dogs\ncats/good.jpg,quarantine,\n", "line 3: .*remove one of them"),
    ],
)
def test_wrong_lines_are_named_before_anything_moves(text: str, words: str, data: Path) -> None:
    before = tree(data)
    report = write(data.parent / "r.csv", text.encode())
    with pytest.raises(ImgclfError, match=words):
        applying.apply(data, report)
    assert tree(data) == before


# -- the command ------------------------------------------------------------------------------------------------------


def test_command_reports_json_csv_and_html(data: Path, imgclf: Run) -> None:
    done = imgclf("clean", "data/", "--json", "--report", "out.csv", "--html", "out.html")
    assert done.returncode == 0
    assert done.stderr == "wrote out.csv\nwrote out.html\n"
    document = json.loads(done.stdout)
    assert document["counts"] == COUNTS
    assert document["files"] == 23
    assert document["checks"] == {"broken": 6, "extension": 5, "duplicate": 1}
    assert {row["path"]: (row["action"], row["check"], row["moved_to"]) for row in document["issues"]} == EXPECTED
    assert {row["path"] for row in document["ignored"]} == IGNORED
    with open(data.parent / "out.csv", newline="", encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert len(rows) == 23
    for path, row in rows.items():
        action, check, target = EXPECTED.get(path, ("ignored" if path in IGNORED else "kept", "", ""))
        assert (row["action"], row["check"], row["moved_to"]) == (action, check, target)
    good = rows["cats/good.jpg"]
    assert (good["format"], good["width"], good["height"]) == ("JPEG", "90", "70")
    assert int(good["bytes"]) == (data / "cats/good.jpg").stat().st_size
    page = (data.parent / "out.html").read_text("utf-8")
    content = json.loads(re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    shown = {image["path"]: image for image in content["images"]}
    assert shown.keys() == EXPECTED.keys()
    assert shown["dogs/taken.jpg"]["thumbnail"]  # read from its new place
    assert shown["cats/deep/inside/good copy.JPEG"]["beside"] == shown["cats/deep/inside/good copy.JPEG"]["thumbnail"]
    assert not shown["cats/page.jpg"]["thumbnail"]
    assert not re.search(r"(src|href)=.?https?:", page)
    assert content["classes"] == ["cats", "dogs"]
    copy = shown["cats/deep/inside/good copy.JPEG"]
    assert (copy["other"], copy["other_label"], copy["other_size"], copy["other_href"]) == (
        "cats/good.jpg", "cats", [90, 70], "data/cats/good.jpg",
    )  # fmt: skip


def test_a_page_escapes_hostile_names(tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script>"
    write(tmp_path / "data" / "cats" / f"{name.replace('/', '')}.jpg", b"")
    write(tmp_path / "data" / "cats" / "good.jpg", encoded(photo(1)))
    writing.write_page(cleaning.clean(tmp_path / "data"), tmp_path / "r.html")
    assert "<script>alert" not in (tmp_path / "r.html").read_text("utf-8")


def test_a_report_that_would_overwrite_a_file_is_refused_before_anything_moves(data: Path, imgclf: Run) -> None:
    before = tree(data.parent)
    write(data.parent / "photo.csv", b"precious\n")
    write(data.parent / "page.html", b"<!doctype html>precious\n")
    for option, place, words in [
        ("--report", "data/cats/good.jpg", "a file name that ends in .csv"),
        ("--report", "data/cats/new.csv", "is inside the data folder"),
        ("--report", "photo.csv", "exists and was not written by imgclf"),
        ("--report", "missing/new.csv", "is missing or cannot be written"),
        ("--html", "data/new.html", "is inside the data folder"),
        ("--html", "page.html", "exists and was not written by imgclf"),
        ("--html", "photo.csv", "a file name that ends in .html"),
    ]:
        done = imgclf("clean", option, place)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
    assert tree(data.parent) == {**before, "photo.csv": b"precious\n", "page.html": b"<!doctype html>precious\n"}
    for _ in range(2):  # an earlier report is replaced
        assert imgclf("clean", "--dry-run", "--report", "new.csv", "--html", "new.html").returncode == 0


def test_command_tables(data: Path, imgclf: Run) -> None:
    done = imgclf("clean", "data/", "--dry-run")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == [
        "23 files: 5 kept, 5 to be renamed, 7 to be quarantined, 6 ignored",
        "usable images by class: cats 5 -> 4, dogs 6 -> 6",
    ]
    assert "PNG named .jpg, to become taken-2.png" in done.stdout
    done = imgclf("clean")
    assert "23 files: 5 kept, 5 renamed, 7 quarantined, 6 ignored" in done.stdout
    assert "PNG named .jpg, now taken-2.png" in done.stdout
    assert re.search(r"^1 .* clean +12 +done", imgclf("clean", "--history").stdout, re.MULTILINE)
    done = imgclf("clean", "--undo")
    assert (done.returncode, done.stdout) == (0, "12 files back where they were\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--undo", "0"], "--undo 0: operations count from 1; --history lists them"),
        (["--history", "--dry-run"], "--history cannot be combined"),
        (["--threshold", "near-duplicate=0.5"], "different images would count as near-duplicates; give 0.93 or more"),
        (["--undo", "--history"], "--undo cannot be combined"),
        (["--apply", "r.csv", "--report", "x.csv"], "--apply cannot be combined with other options than --dry-run"),
        (["--on", "blurry"], "expected a check, = and a value, as in --on blurry=quarantine"),
        (["--on", "blurry=delete"], "unknown action 'delete'; choose report, quarantine, ignore"),
        (["--on", "soft=report"], "unknown check 'soft'; choose broken, unsupported, extension,"),
        (["--threshold", "blurry=much"], "'much' is not a number"),
    ],
)
def test_invalid_options(options: list[str], words: str, data: Path, imgclf: Run) -> None:
    done = imgclf("clean", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_a_class_that_lost_all_its_images_is_named_by_the_next_command(data: Path, imgclf: Run) -> None:
    write(data / "birds" / "1.jpg", b"")
    assert imgclf("clean").returncode == 0
    done = imgclf("split")
    assert done.returncode == 1
    assert done.stderr == "imgclf: error: data: the class folder birds has no images; add some, or remove the folder\n"


def test_a_check_counts_files_rather_than_issues(tmp_path: Path, imgclf: Run) -> None:
    """One image is in three classes: two of the files have one issue each, the third has two."""
    data = make_classes(tmp_path / "data", {"a": 2, "b": 2, "c": 2}, size=40)
    for label in "abc":
        write(data / label / "same.png", encoded(scene(1), "PNG"))
    result = cleaning.clean(data, dry_run=True)
    assert len(result.by_check()["conflict"]) == 4
    assert result.to_dict()["checks"]["conflict"] == 3
    shown = imgclf("clean", "data", "--dry-run").stdout
    assert re.search(r"^conflict +3 +report ", shown, re.MULTILINE), shown


def test_a_folder_with_few_images_is_refused(tmp_path: Path, imgclf: Run) -> None:
    """A folder of source code, given by mistake, must not be moved to quarantine."""
    write(tmp_path / "code" / "docs" / "logo.png", encoded(photo(1), "PNG"))
    for number in range(11):
        write(tmp_path / "code" / "src" / f"{number}.py", b"import this\n")
    before = tree(tmp_path / "code")
    done = imgclf("clean", "code")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "imgclf: error: code: 11 of 12 files are not images, so this is probably not a data folder; nothing was moved. "
        "See them with --dry-run; to move them anyway, add --on broken=quarantine\n"
    )
    assert imgclf("clean", "code", "--dry-run").returncode == 0
    assert tree(tmp_path / "code") == before
    assert imgclf("clean", "code", "--on", "broken=quarantine").returncode == 0
    assert list(tree(tmp_path / "code")) == ["docs/logo.png"]
    write(tmp_path / "data" / "a" / "1.png", encoded(photo(1), "PNG"))
    for number in range(10):
        write(tmp_path / "data" / "a" / f"{number}.txt", b"notes")
    assert json.loads(imgclf("clean", "data", "--json").stdout)["counts"]["quarantined"] == 10
