"""A folder, a run or a plan from someone else: no link in it leads what imgclf writes, moves or removes to another place."""

import contextlib
import itertools
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run, encoded, make_classes, photo, tree, write
from racing import race
from team import PIXELS

from imgclf import runs
from imgclf.clean import applying, cleaning, undoing
from imgclf.core.config import SplitConfig
from imgclf.core.errors import ImgclfError
from imgclf.core.files import atomic, contained, journal, locks, operations, placing, plans, seal
from imgclf.core.files.links import LinkError
from imgclf.preview import overview
from imgclf.split import splitting
from imgclf.split.leakage import find_leakage

PRECIOUS = b"the only copy"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes of three, a file that is no image, and a copy."""
    data = make_classes(tmp_path / "data", {"cats": 3, "dogs": 3})
    write(data / "cats/page.jpg", b"<html>")
    write(data / "dogs/copy.png", (data / "dogs/000.png").read_bytes())
    return data


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What is the user's own and lies outside."""
    write(tmp_path / "home/thesis.txt", PRECIOUS)
    write(tmp_path / "home/.ssh/id_rsa", PRECIOUS)
    return tmp_path / "home"


def pixels(data: Path) -> None:
    exec(PIXELS, {"folder": data})


COMMANDS: dict[str, Callable[[Path], object]] = {
    "clean --dry-run": lambda data: cleaning.clean(data, dry_run=True),
    "clean": cleaning.clean,
    "clean --undo": undoing.undo,
    "clean --history": undoing.history,
    "clean --recover": undoing.recover,
    "split": lambda data: splitting.split(data, force=True),
    "split --seed": lambda data: splitting.split(data, SplitConfig(seed=7), force=True),
    "split --folds": lambda data: splitting.folds(data, 3, force=True),
    "split --check": find_leakage,
    "preview": overview.preview,
    "prepare": pixels,
}


def whole(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every entry below a folder, hidden ones too: its kind and permissions, and its content or where it leads."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = os.lstat(path).st_mode
        content = os.readlink(path).encode() if stat.S_ISLNK(mode) else path.read_bytes() if stat.S_ISREG(mode) else b""
        found[str(path.relative_to(folder))] = (mode, content)
    return found


def plan(data: Path, word: str, *moves: tuple[str, str], mark: str | None = None) -> Path:
    """A plan as someone else may write it: with the right mark of its file, or the one given."""
    rows = [[source, target, mark if mark is not None else mark_of(data, source, target)] for source, target in moves]
    content = {"format": 2, "time": "2026-01-01T00:00:00Z", "how": "move", "moves": rows, "by": "eve", "seal": "0" * 64}
    return write(data / ".imgclf/journal" / f"0001-clean.{word}.json", json.dumps(content).encode())


def mark_of(data: Path, *paths: str) -> str:
    return next((plans.mark(os.lstat(data / path)) for path in paths if os.path.lexists(data / path)), "1 1 1")


# -- the lock ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_a_lock_that_is_a_link_empties_no_file(data: Path, home: Path, name: str) -> None:
    (data / ".imgclf").mkdir()
    (data / ".imgclf/lock").symlink_to(home / "thesis.txt")
    with contextlib.suppress(ImgclfError):
        COMMANDS[name](data)
    assert (home / "thesis.txt").read_bytes() == PRECIOUS


def test_a_lock_with_two_names_or_none_of_a_file_is_refused(data: Path, home: Path) -> None:
    (data / ".imgclf").mkdir()
    lock = data / ".imgclf/lock"
    os.link(home / "thesis.txt", lock)
    with pytest.raises(LinkError, match="has several names"):
        cleaning.clean(data)
    assert (home / "thesis.txt").read_bytes() == PRECIOUS
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(LinkError, match="not a regular file: move it away"):
        cleaning.clean(data)


def test_the_command_says_it_in_one_line(data: Path, home: Path, imgclf: Run) -> None:
    (data / ".imgclf").mkdir()
    (data / ".imgclf/lock").symlink_to(home / "thesis.txt")
    done = imgclf("clean", "data")
    assert (done.returncode, done.stdout) == (1, "")
    said = "imgclf: error: data/.imgclf/lock: a link, which imgclf does not follow here: remove it"
    assert " ".join(done.stderr.split()) == said


# -- journals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mark", "word"),
    [
        *itertools.product(("clean", "clean --undo", "clean --recover"), (None, "", "0 0 0"), ("doing", "done", "undoing")),
        *((name, None, "undoing") for name in COMMANDS if not name.startswith("clean")),
    ],
)
def test_a_journal_moves_nothing_through_a_link(data: Path, home: Path, name: str, mark: str | None, word: str) -> None:
    """A file of the folder to the user's autostart, and the user's key into the folder."""
    (data / "cats/x").symlink_to("../../home")
    write(data / ".imgclf/quarantine/0001/evil", b"evil")
    before = whole(home)
    for moves in (
        [("cats/x/autostart/evil.desktop", ".imgclf/quarantine/0001/evil")],
        [("cats/stolen.jpg", "cats/x/thesis.txt")],
        [("cats/x/thesis.txt", "cats/stolen.jpg")],
    ):
        plan(data, word, *moves, mark=mark)
        with contextlib.suppress(ImgclfError):
            COMMANDS[name](data)
        assert whole(home) == before
        assert not (data / "cats/stolen.jpg").exists()
        for left in (data / ".imgclf/journal").iterdir():
            left.unlink()


def test_a_journal_reaches_no_hidden_place(data: Path) -> None:
    """A repository's hooks, a server's settings: places where clean never finds an image."""
    write(data / ".imgclf/quarantine/0001/hook", b"evil")
    for place in (".git/hooks/post-checkout", "cats/.htaccess", ".imgclf/split.csv", ".imgclf/quarantine/0001"):
        plan(data, "done", (place, ".imgclf/quarantine/0001/hook"))
        with pytest.raises(ImgclfError, match=r"this journal is damaged .* is no place of an image"):
            undoing.undo(data)
        assert not (data / place).is_file()


def test_a_plan_of_someone_else_is_named_and_waits(data: Path) -> None:
    write(data / ".imgclf/quarantine/0001/cats/9.jpg", encoded(photo(9)))
    waiting = plan(data, "undoing", ("cats/9.jpg", ".imgclf/quarantine/0001/cats/9.jpg"))
    before = waiting.read_bytes()
    expected = (
        "operation 1: clean by eve was interrupted and is left as it is; "
        f"if you trust it, finish it with `imgclf clean {data} --recover`"
    )
    assert expected in cleaning.clean(data).notes
    assert (waiting.read_bytes(), (data / "cats/9.jpg").exists()) == (before, False)
    assert undoing.recover(data) == ["finished an interrupted undo of clean"]
    assert (data / "cats/9.jpg").read_bytes() == encoded(photo(9))
    with pytest.raises(ImgclfError, match="no command was interrupted here"):
        undoing.recover(data)


def test_ones_own_plan_is_finished_and_a_changed_one_is_not(data: Path) -> None:
    state = data / ".imgclf"
    cleaning.clean(data)
    (done,) = (state / "journal").iterdir()
    undoing = done.rename(done.with_name("0001-clean.undoing.json"))
    content = json.loads(undoing.read_bytes())
    assert seal.is_own(data, content)
    for changed in (
        {"time": "2020-01-01T00:00:00Z"},
        {"moves": content["moves"][1:]},
        {"by": "root"},
        {"seal": ""},
        {"seal": 5},
    ):
        assert not seal.is_own(data, content | changed)
    assert not seal.is_own(data / "cats", content), "a seal is for one folder"
    assert operations.recover(data, state) == ["finished an interrupted undo of clean"]


def test_without_a_key_every_plan_waits(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(write(tmp_path / "file", b"no folder")))
    cleaning.clean(data)
    (done,) = (data / ".imgclf/journal").iterdir()
    assert json.loads(done.read_bytes())["seal"] == ""
    done.rename(done.with_name("0001-clean.undoing.json"))
    assert any("was interrupted and is left as it is" in note for note in cleaning.clean(data).notes)
    assert undoing.recover(data)[-1] == "finished an interrupted undo of clean"


def test_the_key_is_the_users_alone(data: Path) -> None:
    cleaning.clean(data)
    key = Path(os.environ["XDG_CACHE_HOME"]) / "imgclf/key"
    assert (stat.S_IMODE(os.stat(key).st_mode), len(key.read_bytes())) == (0o600, 32)


def test_a_file_that_changed_since_it_was_planned_stays(data: Path) -> None:
    state = data / ".imgclf"
    with journal.opened(data, state) as opened:
        move = plans.Move("cats/000.png", "cats/moved.png", plans.mark(opened.status("cats/000.png")))
        write(data / "cats/000.png", b"another one")
        assert operations._move(opened, move) == "changed meanwhile"
    assert (data / "cats/000.png").read_bytes() == b"another one"
    assert not (data / "cats/moved.png").exists()
    assert not state.exists()


def test_a_folder_is_no_file_to_move(data: Path) -> None:
    failures = operations.apply(data, data / ".imgclf", "clean", [plans.Move("cats", "elsewhere")])
    assert [failure.reason for failure in failures] == ["a folder, not a file"]


# -- reports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        "cats/x/thesis.jpg,quarantine,",
        "cats/x/thesis.jpg,relabel,dogs",
        "cats/000.png,relabel,birds",
        "birds/thesis.jpg,relabel,cats",
    ],
)
def test_a_report_moves_nothing_in_linked_folders(data: Path, home: Path, row: str) -> None:
    write(home / "thesis.jpg", encoded(photo(3)))
    (data / "cats/x").symlink_to("../../home")
    (data / "birds").symlink_to("../home")
    before = whole(home), tree(data)
    write(data.parent / "r.csv", f"path,action,new_label\n{row}\n".encode())
    with pytest.raises(ImgclfError, match=r"r.csv, line 2: .* is a link or in a linked folder, where nothing is moved"):
        applying.apply(data, data.parent / "r.csv")
    assert (whole(home), tree(data)) == before


# -- sorted folders ----------------------------------------------------------------------------------------------------


def sorted_plan(folder: Path, how: str, source: Path, target: str) -> None:
    status = os.lstat(folder / target)
    content = {"format": 2, "how": how, "moves": [[str(source), target, f"0 {status.st_size} {status.st_mtime_ns}"]]}
    write(folder / ".imgclf/journal/0001-predict.done.json", json.dumps({**content, "by": "eve", "seal": ""}).encode())


def test_a_plan_of_someone_else_places_nothing(data: Path, home: Path, imgclf: Run) -> None:
    folder = write(data.parent / "sorted/cats/a.jpg", b"print('evil')").parents[1]
    before = whole(home)
    sorted_plan(folder, "move", home / "project/json.py", "cats/a.jpg")
    back, problems = placing.undo(folder)
    assert back == []
    assert problems == [
        (str(folder / ".imgclf/journal/0001-predict.done.json"),
         f"made by eve; it would put files back into {home}/project (1); if you trust it, add --recover")
    ]  # fmt: skip
    assert whole(home) == before
    done = imgclf("predict", "--undo", "sorted", "--recover")
    assert (done.returncode, done.stdout) == (0, f"{home}/project/json.py\n")
    assert imgclf("predict", "x.jpg", "--recover").returncode == 2


@pytest.mark.parametrize("word", ["doing", "undoing"])
def test_recover_puts_nothing_of_someone_else_outside(data: Path, home: Path, word: str) -> None:
    """Not even where a file outside and one in the folder are one file, of which a name would go."""
    (data / "cats/a.jpg").hardlink_to(home / "thesis.txt")
    sorted_plan(data, "move", home / "thesis.txt", "cats/a.jpg")
    folder = data / ".imgclf/journal"
    (folder / "0001-predict.done.json").rename(folder / f"0001-predict.{word}.json")
    before = whole(home), tree(data)
    assert undoing.recover(data) != []
    assert (whole(home), tree(data)) == before
    assert [path.name for path in folder.iterdir()] == ["0001-predict.done.json"]


@pytest.mark.parametrize("word", ["doing", "undoing"])
def test_recover_makes_no_plan_of_someone_else_ours(data: Path, home: Path, word: str) -> None:
    """After `clean --recover`, an undo still waits for --recover: it would put a file outside the folder."""
    sorted_plan(data, "move", home / "project/json.py", "cats/000.png")
    folder = data / ".imgclf/journal"
    (folder / "0001-predict.done.json").rename(folder / f"0001-predict.{word}.json")
    undoing.recover(data)
    before = whole(home), tree(data)
    back, problems = placing.undo(data)
    assert (back, [name for name, _reason in problems]) == ([], [str(folder / "0001-predict.done.json")])
    assert problems[0][1].startswith(f"made by eve; it would put files back into {home}/project (1)")
    assert (whole(home), tree(data)) == before


def test_an_undo_of_predict_leaves_what_clean_left_unfinished(data: Path, home: Path) -> None:
    interrupted = plan(data, "doing", ("cats/000.png", "cats/moved.png"))
    for foreign in (False, True):
        assert placing.place(data, [(str(home / "thesis.txt"), "cats")], "move").problems == []
        assert placing.undo(data, foreign=foreign) == ([f"{home}/thesis.txt"], [])
        assert interrupted.exists()


@pytest.mark.parametrize("place", [".config/autostart/evil.desktop", "a/../.ssh/authorized_keys", "link/x"])
def test_even_a_trusted_plan_reaches_no_hidden_place_and_no_link(data: Path, home: Path, place: str) -> None:
    folder = write(data.parent / "sorted/cats/a.jpg", b"evil").parents[1]
    (home / "link").symlink_to(data)
    before = whole(home), tree(data)
    sorted_plan(folder, "move", Path(f"{home}/{place}"), "cats/a.jpg")
    try:
        assert placing.undo(folder, foreign=True)[0] == []
    except ImgclfError as error:
        assert "this journal is damaged" in str(error)
    assert (whole(home), tree(data)) == before


@pytest.mark.parametrize("name", ["\ud800", "x" * 5000, "[" * 300 + "/y"])
def test_a_plan_with_a_name_that_no_file_has(data: Path, home: Path, name: str) -> None:
    """Half a character, as JSON can have it, and names that the system does not take."""
    folder = write(data.parent / "sorted/cats/a.jpg", b"x").parents[1]
    sorted_plan(folder, "move", Path(f"{home}/{name}"), "cats/a.jpg")
    before = whole(home), tree(data)
    with contextlib.suppress(ImgclfError):
        assert placing.undo(folder, foreign=True)[0] == []
    assert (whole(home), tree(data)) == before


def test_links_in_a_sorted_folder_are_not_followed(data: Path, home: Path) -> None:
    folder = data.parent / "sorted"
    folder.mkdir()
    (folder / "cats").symlink_to(home)
    wishes = [(str(data / "cats/000.png"), "cats")]
    before = whole(home), tree(data)
    for how in ("move", "link"):
        done = placing.place(folder, wishes, how)
        assert (done.labels, len(done.problems)) == ({}, 1)
        assert done.problems[0][1].startswith("a link, which imgclf does not follow here")
    assert (whole(home), tree(data)) == before
    (folder / "cats").unlink()
    shutil.rmtree(folder / ".imgclf")
    assert placing.place(folder, wishes, "link").labels == {"cats": 1}
    (folder / "cats").rename(home / "cats")
    (folder / "cats").symlink_to(home / "cats")
    before = whole(home), tree(data)
    assert placing.undo(folder)[0] == []
    assert (whole(home), tree(data)) == before


def test_the_lock_of_a_sorted_folder_is_no_link(data: Path, home: Path) -> None:
    folder = data.parent / "sorted"
    (folder / ".imgclf").mkdir(parents=True)
    (folder / ".imgclf/lock").symlink_to(home / "thesis.txt")
    with pytest.raises(LinkError):
        placing.place(folder, [(str(data / "cats/000.png"), "cats")], "move")
    assert (home / "thesis.txt").read_bytes() == PRECIOUS


# -- every place -------------------------------------------------------------------------------------------------------


def used(data: Path) -> list[Path]:
    """A data folder in which every command was at work; returns what they made, one of each kind."""
    for name in ("split", "split --folds", "preview", "prepare", "clean"):
        COMMANDS[name](data)
    with locks.locked(data / ".imgclf", "clean"):
        pass
    kinds: dict[str, Path] = {}
    for path in sorted((data / ".imgclf").rglob("*")):
        kind = re.sub(r"[0-9a-f]{2,}|[0-9]+", "#", str(path.relative_to(data)))
        kinds.setdefault(kind, path.relative_to(data))
    return [Path(".imgclf"), *kinds.values()]


def test_a_link_in_any_place_leads_nowhere(data: Path, tmp_path: Path) -> None:
    """Each file and folder that imgclf keeps is replaced by a link to a copy outside, and every command is run."""
    places = used(data)
    assert len(places) > 20
    for number, place in enumerate(places):
        root = tmp_path / str(number)
        shutil.copytree(data, root / "data", symlinks=True)
        outside = root / "outside" / place.name
        outside.parent.mkdir()
        (root / "data" / place).rename(outside)
        (root / "data" / place).symlink_to(outside)
        write(root / "outside/.notes.0123456789ab.tmp.md", b"precious")  # named like a leftover of ours
        if outside.is_dir():
            write(outside / ".notes.0123456789ab.tmp.md", b"precious")
        before = whole(root / "outside")
        for name, command in COMMANDS.items():
            if name in ("split", "clean --history"):
                continue
            with contextlib.suppress(ImgclfError):
                command(root / "data")
            assert whole(root / "outside") == before, (place, name)
        shutil.rmtree(root)


def test_a_state_folder_that_is_a_link_is_refused(data: Path, home: Path) -> None:
    (data / ".imgclf").symlink_to(home)
    for name, command in COMMANDS.items():
        if name != "clean --history":
            with pytest.raises(ImgclfError, match=r"\.imgclf: a link where imgclf keeps its own folder"):
                command(data)


def test_a_temporary_file_is_never_one_that_was_there(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name cannot be guessed; even if it were, what has the name is not written to."""
    names = {contained.temporary_name("a.json") for _ in range(100)}
    assert len(names) == 100
    monkeypatch.setattr(os, "urandom", bytes)
    (tmp_path / contained.temporary_name("a.json")).symlink_to(home / "thesis.txt")
    with pytest.raises(FileExistsError):
        atomic.write_atomic(tmp_path / "a.json", b"{}")
    assert (home / "thesis.txt").read_bytes() == PRECIOUS


def test_the_trash_of_runs_is_no_link(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "runs/a/config.json", b"{}")
    (tmp_path / "runs/.trash").symlink_to(home)
    with pytest.raises(LinkError):
        runs.remove("a", tmp_path / "runs")
    assert (tmp_path / "runs/a/config.json").exists()


def test_files_of_a_run_that_are_links_are_replaced_and_not_followed(tmp_path: Path, home: Path) -> None:
    (tmp_path / "evaluation-test.json").symlink_to(home / "thesis.txt")
    atomic.write_json(tmp_path / "evaluation-test.json", {})
    assert (home / "thesis.txt").read_bytes() == PRECIOUS
    assert not (tmp_path / "evaluation-test.json").is_symlink()


# -- the folder itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_descriptor", [True, False])
def test_folders_with_and_without_descriptors_do_the_same(
    tmp_path: Path, home: Path, by_descriptor: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contained, "BY_DESCRIPTOR", by_descriptor)
    (tmp_path / "link").symlink_to(home)
    with contained.Folder.named(tmp_path) as root:
        with root.below("a", "b", make=True) as folder:
            os.close(folder.create("new"))
            assert folder.names() == ["new"]
            with pytest.raises(FileExistsError):
                folder.create("new")
            folder.replace("new", "x")
            folder.link("x", folder, "y")
            assert folder.status("y").st_nlink == 2  # type: ignore[union-attr]
            folder.unlink("y")
            assert folder.read("x", 10) == b""
            assert folder.status("none") is None
        for names in (("link",), ("link", "sub"), ("a", "b", "x")):
            with pytest.raises((LinkError, NotADirectoryError)):
                root.below(*names, make=True)
        for name in ("", ".", "..", "a/b", "a\0b"):
            with pytest.raises(ValueError, match="is not the name of a file or folder"):
                root.status(name)
        root.symlink("thesis.txt", "leads")
        with pytest.raises(LinkError):
            root.open("leads")
    assert not (home / "sub").exists()


def test_a_folder_that_is_swapped_while_files_are_moved_lets_nothing_out(tmp_path: Path) -> None:
    made, refused = race(tmp_path, 20)
    assert made + refused == 400
    assert made
