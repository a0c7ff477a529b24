"""Shares of clean, audit and predict: together they are the whole, in any order, whatever is missing or was killed."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, encoded, make_classes, photo, tree, write
from described import as_described

from imgclf.core import shards
from imgclf.core.errors import UsageError
from imgclf.core.shards import Shard
from imgclf.data import file_index, layout
from imgclf.data.index_tables import index_path as catalogue_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 30, a broken file, an exact copy, a changed copy."""
    data = tmp_path / "data"
    for number in range(60):
        write(data / ("cats", "dogs")[number % 2] / f"{number:02d}.jpg", encoded(photo(number, 80, 60), quality=95))
    write(data / "cats" / "broken.jpg", b"<html>")
    write(data / "cats" / "copy.jpg", (data / "cats" / "00.jpg").read_bytes())
    write(data / "dogs" / "small.jpg", encoded(photo(1, 80, 60).resize((60, 45)), quality=80))
    return data


def found(imgclf: Run, *arguments: object) -> dict[str, object]:
    document: dict[str, object] = json.loads(imgclf("clean", "data", "--dry-run", "--json", *arguments).stdout)
    return document


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "a/4", "-1/4", "1/4/2", "1.5/4"])
def test_a_share_that_there_is_not(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        shards.parse(text)


def test_every_path_belongs_to_one_share_and_shares_are_alike() -> None:
    paths = [f"cats/{number}.jpg" for number in range(4000)] + ["cats/\udcff.jpg", "dogs/日本.png"]
    owners = [[index for index in range(1, 9) if Shard(index, 8).has(path)] for path in paths]
    assert all(len(owner) == 1 for owner in owners)
    sizes = [sum(owner == [index] for owner in owners) for index in range(1, 9)]
    assert min(sizes) > 400
    assert max(sizes) < 600


def test_which_share_a_path_belongs_to_is_the_same_everywhere() -> None:
    """By the CRC-32 of its bytes, so that machines of any kind agree."""
    import zlib

    for path in ("a/1.jpg", "b/\u00e9.png", "c/\udcff.png"):
        owner = zlib.crc32(path.encode("utf-8", "surrogateescape")) % 5 + 1
        assert [index for index in range(1, 6) if Shard(index, 5).has(path)] == [owner]
    assert shards.parse("3/8") == Shard(3, 8)
    assert shards.parse("8/8") == Shard(8, 8)
    assert str(Shard(3, 8)) == "3 of 8"
    wrong = {"9/8": "shards are numbered from 1 to 8", "0/8": "from 1 to 8", "\u0663/8": "must be the number of the shard"}
    for text, words in wrong.items():
        with pytest.raises(UsageError, match=words):
            shards.parse(text)


def test_the_file_of_a_share_takes_its_name_when_it_is_done(tmp_path: Path) -> None:
    """One that is done again begins with what it had; of two commands the first has done it for both."""
    path = tmp_path / "state" / "files.sqlite"
    with pytest.raises(ZeroDivisionError), shards.result(path, Shard(2, 3)) as working:
        working.write_bytes(b"half")
        raise ZeroDivisionError
    assert (working.name, shards.results(path)) == (".files.shard-2-of-3.sqlite", [])
    with shards.result(path, Shard(2, 3)) as working:
        assert working.read_bytes() == b"half"
        working.write_bytes(b"whole")
    done = path.with_name("files.shard-2-of-3.sqlite")
    assert shards.results(path) == [(Shard(2, 3), done)]
    assert [file.name for file in path.parent.iterdir()] == [done.name]
    with shards.result(path, Shard(2, 3)) as working:
        assert (working.read_bytes(), done.exists()) == (b"whole", False)
        working.rename(done)  # as the other command does
    assert done.read_bytes() == b"whole"
    with pytest.raises(FileNotFoundError), shards.result(path, Shard(2, 3)) as working:
        working.unlink()
    for name in ("files.shard-1-of-10.sqlite", "files.shard-2-of-10.sqlite", "files.shard-1-of-3.sqlite"):
        write(path.with_name(name), b"")
    for name in ("other.shard-1-of-3.sqlite", "files.shard-1-of-3.sqlite-journal", "files.shard-x-of-3.sqlite"):
        write(path.with_name(name), b"")
    assert [(shard.index, shard.count) for shard, _file in shards.results(path)] == [(1, 3), (1, 10), (2, 10)]


def test_summary_of_shards() -> None:
    assert shards.summary([]) == ""
    assert shards.summary([Shard(2, 2), Shard(1, 2)]) == "merged 2 of 2 shards"
    assert shards.summary([Shard(3, 4), Shard(1, 2), Shard(3, 4)]) == (
        "merged 1 of 2 shards; processed the missing shards here: 2; "
        "merged 1 of 4 shards; processed the missing shards here: 1, 2, 4"
    )


def test_clean_after_its_shares_decodes_nothing_and_finds_the_same(folder: Path, imgclf: Run) -> None:
    whole = found(imgclf)
    shutil.rmtree(folder / ".imgclf")
    before = tree(folder)
    counts = [json.loads(imgclf("clean", "data", "--shard", f"{index}/3", "--json").stdout) for index in (2, 3, 1)]
    as_described("shard", counts[0])
    assert sum(one["inspected"] for one in counts) == 63
    assert sum(one["broken"] for one in counts) == 1
    assert {one["files"] for one in counts} == {63}
    assert tree(folder) == before
    files = [file.path for file in layout.scan(folder)]
    with file_index.inspect(folder, files) as scanned:
        assert scanned.read == 1  # the file that is no image by its first bytes, of which nothing is kept
        assert [str(shard) for shard in scanned.taken] == ["1 of 3", "2 of 3", "3 of 3"]
    assert list((folder / ".imgclf" / "index").iterdir()) == [catalogue_file(folder)]
    again = found(imgclf)
    assert again.pop("notes") == whole.pop("notes")
    assert again == whole


def test_a_missing_share_is_told_and_done(folder: Path, imgclf: Run) -> None:
    whole = found(imgclf)
    shutil.rmtree(folder / ".imgclf")
    imgclf("clean", "data", "--shard", "1/3")
    result = found(imgclf)
    assert result.pop("notes") == ["merged 1 of 3 shards; processed the missing shards here: 2, 3"]
    whole.pop("notes")
    assert result == whole


def test_a_share_passes_over_what_is_known(folder: Path, imgclf: Run) -> None:
    found(imgclf)
    write(folder / "cats" / "new.jpg", encoded(photo(99)))
    looked = [json.loads(imgclf("clean", "data", "--shard", f"{index}/2", "--json").stdout)["inspected"] for index in (1, 2)]
    assert sum(looked) == 2  # the new one, and the broken file of which nothing is kept


def test_a_damaged_share_is_done_again(folder: Path, imgclf: Run) -> None:
    imgclf("clean", "data", "--shard", "1/2")
    (file,) = (folder / ".imgclf" / "index").glob("*.shard-*")
    file.write_bytes(b"SQLite format 3\0" + bytes(5000))
    done = imgclf("clean", "data", "--dry-run", "--json")
    assert json.loads(done.stdout)["files"] == 63
    (line,) = [line for line in done.stderr.splitlines() if "damaged" in line]
    assert line.startswith(f"data/.imgclf/index/{file.name}: damaged (")
    assert line.endswith(f") and rebuilt; old file: {file.stem}-1.sqlite")
    assert not file.exists()


def test_a_share_may_be_taken_up_by_two_commands_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [file.path for file in layout.scan(folder)]
    file_index.inspect_shard(folder, paths, Shard(1, 1))
    connect = sqlite3.connect

    def late(place: str, **options: Any) -> sqlite3.Connection:
        """Just now the other command is done with the shard."""
        db = connect(place, **options)
        for path in (folder / ".imgclf" / "index").glob("*.shard-*") if "shard" in place else []:
            path.unlink()
        return db

    monkeypatch.setattr(sqlite3, "connect", late)
    with file_index.inspect(folder, paths) as scanned:
        assert scanned.read == 1  # the rows were taken up in time


def test_a_killed_share_goes_on_where_it_was(folder: Path) -> None:
    state = folder / ".imgclf" / "index"
    paths = [file.path for file in layout.scan(folder)]
    with pytest.raises(KeyboardInterrupt):
        file_index.inspect_shard(folder, paths, Shard(1, 1), lambda done, _total: interrupt(done))
    name = f"{catalogue_file(folder).stem}.shard-1-of-1.sqlite"
    assert [path.name for path in state.iterdir()] == [f".{name}"]
    assert file_index.inspect_shard(folder, paths, Shard(1, 1)) == (63, 1)
    assert [path.name for path in state.iterdir()] == [name]


def interrupt(done: int) -> None:
    if done == 40:
        raise KeyboardInterrupt


def test_shard_goes_alone(folder: Path, imgclf: Run) -> None:
    for options in (["--undo"], ["--dry-run"], ["--report", "r.csv"], ["--policy", "strict"]):
        done = imgclf("clean", "data", "--shard", "1/2", *options)
        assert done.returncode == 2
        assert "cannot be combined" in done.stderr
    assert imgclf("audit", "data", "--shard", "1/2", "--html", "a.html").returncode == 2
    assert not (folder / ".imgclf" / "index").exists()


def test_audit_after_its_shares_computes_no_feature(tmp_path: Path, imgclf: Run) -> None:
    data = make_classes(tmp_path / "data", {"blue": 15, "red": 15})
    options = ("--weights", "none", "--image-size", "32")
    whole = json.loads(imgclf("audit", "data", *options, "--json").stdout)
    assert whole["images"] == 30
    shutil.rmtree(data / ".imgclf")
    for index in (3, 1, 2):
        done = imgclf("audit", "data", "--shard", f"{index}/3", *options)
        assert done.returncode == 0, done.stderr
    (store,) = {re.sub(r"\.shard-.*", "", path.name) for path in (data / ".imgclf" / "features").iterdir()}
    rows = 0
    for path in (data / ".imgclf" / "features").iterdir():
        with contextlib.closing(sqlite3.connect(path)) as db:
            rows += db.execute("SELECT count(*) FROM features").fetchone()[0]
    assert rows == 30
    shutil.copytree(data / ".imgclf", tmp_path / "copy")
    done = imgclf("audit", "data", *options, "--json")
    assert json.loads(done.stdout) == whole
    assert [path.name for path in (data / ".imgclf" / "features").iterdir()] == [f"{store}.sqlite"]
    shutil.rmtree(data / ".imgclf")
    shutil.move(tmp_path / "copy", data / ".imgclf")
    assert "merged 3 of 3 shards" in imgclf("audit", "data", *options).stderr


def printed(imgclf: Run, project: Path, inputs: list[str], count: int) -> list[str]:
    names = []
    for index in range(1, count + 1):
        done = imgclf("predict", *inputs, "--shard", f"{index}/{count}", "--jsonl", "--top", "2")
        (project / f"part-{index}.jsonl").write_text(done.stdout, "utf-8", errors="surrogateescape")
        names.append(f"part-{index}.jsonl")
    return names


def test_merged_records_are_those_of_one_command(project: Path, imgclf: Run) -> None:
    write(project / "in" / "broken.png", b"\x89PNG\r\n\x1a\n broken")
    write(project / "in" / os.fsdecode(b"caf\xe9,\n.png"), (project / "data/red/000.png").read_bytes())
    inputs = ["in", "data/red", "missing.jpg"]
    whole = imgclf("predict", *inputs, "--jsonl", "--top", "2")
    names = printed(imgclf, project, inputs, 4)
    merged = imgclf("predict", "--merge", *reversed(names), "--jsonl")
    assert merged.stdout == whole.stdout
    assert merged.returncode == whole.returncode == 1
    for form in (["--csv", "--top", "2"], ["--json"], ["--format", "{label} {path}"], ["--csv"]):
        same = imgclf("predict", "--merge", *names, *form)
        assert same.stdout.replace("\r\n", "\n") == imgclf("predict", *inputs, *with_top(form)).stdout.replace("\r\n", "\n")


def with_top(form: list[str]) -> list[str]:
    """The shards were asked for two classes, which JSON shows."""
    return form if "--csv" in form or "--format" in form else [*form, "--top", "2"]


def test_more_shares_than_inputs(project: Path, imgclf: Run) -> None:
    names = printed(imgclf, project, ["data/red/000.png", "data/red/001.png"], 4)
    assert (project / "part-4.jsonl").read_text() == ""
    record = as_described("prediction", json.loads((project / "part-2.jsonl").read_text()))
    assert record["place"] == {"shard": 2, "shards": 4, "position": 1, "inputs": 2, "file": True}
    assert imgclf("predict", "--merge", *names, "--format", "{path}").stdout == "data/red/000.png\ndata/red/001.png\n"


def test_incomplete_shares_are_refused(project: Path, imgclf: Run) -> None:
    names = printed(imgclf, project, ["data/red"], 3)

    def refused(*given: str) -> str:
        done = imgclf("predict", "--merge", *given, "--jsonl")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return str(done.stderr)

    assert "shard 2 of 3: record 1 is missing" in refused(names[0], names[2])
    assert "the same shard as part-1.jsonl" in refused(names[0], names[0], names[1])
    lines = (project / names[2]).read_text().splitlines(keepends=True)
    (project / "cut.jsonl").write_text("".join(lines[:-1]))  # killed before its last record
    assert "cut.jsonl: record 8 is missing" in refused(names[0], names[1], "cut.jsonl")
    (project / "cut.jsonl").write_text("".join(lines)[:-20])
    assert "cut.jsonl, line 8: not a record of a shard" in refused(names[0], names[1], "cut.jsonl")
    for content in (b"\xff\xd8\xff\xe0 an image", b"[" * 100_000):
        write(project / "none.jsonl", content)
        assert "none.jsonl, line 1: not a record of a shard" in refused(names[0], "none.jsonl", names[2])
    (project / "cut.jsonl").write_text("")
    assert "no records" in refused("cut.jsonl")
    (project / "plain.jsonl").write_text(imgclf("predict", "data/red", "--jsonl").stdout)
    assert "without --shard" in refused("plain.jsonl")
    write(project / "data" / "red" / "zzz.png", (project / "data/red/000.png").read_bytes())
    more = imgclf("predict", "data/red", "--shard", "2/3", "--jsonl").stdout
    (project / "other.jsonl").write_text(more)
    assert "the shards had different inputs" in refused(names[0], "other.jsonl", names[2])
    assert imgclf("predict", "data/red", "--shard", "1/2").returncode == 2  # a table cannot be merged
    assert imgclf("predict", "data/red", "--shard", "1/2", "--jsonl", "--move-to", "sorted").returncode == 2


def test_merged_records_can_be_sorted(project: Path, imgclf: Run) -> None:
    names = printed(imgclf, project, ["data/red", "data/blue"], 2)
    done = imgclf("predict", "--merge", *names, "--link-to", "sorted", "--jsonl")
    assert done.returncode == 0, done.stderr
    assert len(list((project / "sorted").rglob("*.png"))) == 48


def test_shares_at_once_and_killed(folder: Path, imgclf: Run, tmp_path: Path) -> None:
    """Three shards side by side, one of them killed and started again, while the folder is looked at as a whole."""
    whole = found(imgclf)
    shutil.rmtree(folder / ".imgclf")
    command = [sys.executable, "-m", "imgclf", "clean", "data", "--shard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    victims = [subprocess.Popen([*command, f"{index}/3"], **quiet) for index in (1, 2, 3)]  # type: ignore[call-overload]
    time.sleep(0.3)
    victims[1].send_signal(signal.SIGKILL)
    assert [victim.wait() for victim in victims] == [0, -9, 0]
    assert subprocess.run([*command, "2/3"], **quiet).returncode == 0  # type: ignore[call-overload]
    result = found(imgclf)
    assert result.pop("notes") == ["merged 3 of 3 shards"]
    whole.pop("notes")
    assert result == whole


def test_the_job_array_for_slurm(project: Path, imgclf: Run) -> None:
    script = Path(__file__).parents[2] / "examples" / "slurm_array.sh"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def task(number: int, *words: str, **variables: str) -> int:
        environment = {**os.environ, "PATH": path, "SLURM_ARRAY_TASK_ID": str(number), **variables}
        return subprocess.run(["bash", script, *words], cwd=project, env=environment, capture_output=True).returncode

    for number in (1, 2):
        assert task(number, "clean", "data", SLURM_ARRAY_TASK_COUNT="2") == 0
        # 72 images and then the missing file, which is the first shard's
        assert task(number, "predict", "data", "missing.jpg", SLURM_ARRAY_TASK_COUNT="1", SHARDS="2") == 2 - number
    assert "merged 2 of 2 shards" in imgclf("clean", "data").stderr
    merged = imgclf("predict", "--merge", "shard-1-of-2.jsonl", "shard-2-of-2.jsonl", "--jsonl").stdout
    assert merged == imgclf("predict", "data", "missing.jpg", "--jsonl").stdout
