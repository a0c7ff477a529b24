"""The command as a whole: exit codes, streams, and the six lines that must always work as they stand."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Run, make_classes, started, write

import imgclf as package


def test_the_six_commands_in_order(tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path / "data", {"a": 14, "b": 14})
    write(tmp_path / "data" / "a" / "page.jpg", b"<html>")
    write(tmp_path / "img.jpg", (tmp_path / "data" / "b" / "000.png").read_bytes())
    for line in ("clean data/", "preview data/", "split data/", "train --epochs 2", "evaluate", "predict img.jpg"):
        done = imgclf(*line.split())
        assert done.returncode == 0, (line, done.stderr)
        assert done.stdout
        assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "img.jpg", "runs"]


def test_version_and_help(imgclf: Run) -> None:
    assert imgclf("--version").stdout == f"imgclf {package.__version__}\n"
    for command in ("", "clean", "preview", "split", "train", "evaluate", "predict"):
        done = imgclf(*([command] if command else []), "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: ")
    assert imgclf().returncode == 2


@pytest.mark.parametrize("command", ["clean", "preview", "split", "train"])
def test_a_missing_data_folder(command: str, imgclf: Run, tmp_path: Path) -> None:
    done = imgclf(command)
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last == "imgclf: error: data: no such folder; give the folder that holds one folder of images per class"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["trian"], ["train", "--epochs", "many"], ["split", "--link", "soft"], ["clean", "a", "b"]]
)
def test_usage_errors(arguments: list[str], imgclf: Run) -> None:
    done = imgclf(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr


def test_an_unset_variable_is_not_the_current_folder(tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path, {"a": 1, "b": 1}, size=8)
    for verb in ("clean", "split", "predict"):
        done = imgclf(verb, "")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "imgclf: error: an argument is empty; is a variable in your script not set?\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_root_and_the_home_folder_are_refused(tmp_path: Path, imgclf: Run) -> None:
    for place in ("/", tmp_path):
        done = imgclf("clean", place, env={**os.environ, "HOME": str(tmp_path)})
        assert done.returncode == 1
        assert "the home folder or the root of the disk" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_piped_tables_are_not_folded(project: Path, imgclf: Run) -> None:
    wide = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    name = "x" * 200 + ".jpg"
    assert f"{name}  " in imgclf("predict", name, env=wide).stdout


def test_a_bug_leaves_its_traceback_in_a_log(tmp_path: Path) -> None:
    make_classes(tmp_path / "data", {"a": 1, "b": 1}, size=8)
    code = (
        "import sys, imgclf.clean.cleaning as verb; verb.clean = lambda *a, **k: 1 / 0; sys.argv = ['imgclf', 'clean']\n"
        "from imgclf.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    found = re.fullmatch(
        r"imgclf: error: a bug in imgclf \(ZeroDivisionError: division by zero\); please report it with the log (.*)\n",
        done.stderr,
    )
    assert found, done.stderr
    log = Path(found[1]).read_text()
    assert "ZeroDivisionError" in log
    assert "Traceback" in log


def test_interrupted_while_cleaning(tmp_path: Path) -> None:
    """Ctrl-C: one line, exit code 130, no file moved, no lock left behind."""
    make_classes(tmp_path / "data", {"a": 3, "b": 3}, size=8)
    write(tmp_path / "data" / "a" / "page.jpg", b"<html>")
    code = (
        "import sys, time, imgclf.images.decode as decode; decode.decode = lambda *_: time.sleep(3)\n"
        "sys.argv = ['imgclf', 'clean']; print('ready', flush=True)\n"
        "from imgclf.cli.app import main; main()"
    )
    with started([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as child:
        assert child.stdout
        child.stdout.readline()
        lock = tmp_path / "data" / ".imgclf" / "lock"
        deadline = time.monotonic() + 30
        while not (lock.exists() and lock.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        _out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err == b"interrupted\n"
    assert (tmp_path / "data" / "a" / "page.jpg").exists()
    assert lock.read_bytes() == b""


def test_a_full_disk_is_one_line(project: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "imgclf", "predict", "data/red/000.png", "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=project,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("imgclf: error: No space left on device")
    assert done.stderr.count("\n") == 1


def test_closed_streams_and_no_home(project: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    for redirection in (">&-", "2>&-", ">&- 2>&-"):
        line = f"{sys.executable} -m imgclf predict data/red/000.png {redirection}"
        done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=project, env=bare)
        assert done.returncode == 0, (redirection, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_folder_that_may_not_be_written(project: Path, imgclf: Run) -> None:
    (project / "runs" / "toy" / "evaluation-test.json").mkdir()
    done = imgclf("evaluate", "data")
    assert done.returncode == 1
    assert "accuracy " in done.stdout, "the metrics are shown all the same"
    assert done.stderr.startswith("imgclf: error: runs/toy: the results cannot be written: Is a directory")


def test_escape_sequences_in_names_are_shown_not_sent(tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path / "data", {"a": 2, "b": 2}, size=8)
    write(tmp_path / "data" / "a" / "\x1b[31mred.jpg", b"")
    done = imgclf("clean")
    assert "\x1b" not in done.stdout + done.stderr
    assert "a/\\x1b[31mred.jpg" in done.stdout
    done = imgclf("clean", "no\nimgclf: all is well")
    assert done.stderr.startswith("imgclf: error: no\\nimgclf: all is well: no such folder")
    assert done.stderr.count("\n") == 1
    done = imgclf("predict", "x.jpg", "--run", "\x1b[2J")
    assert "\\x1b[2J: no such run folder" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_two_commands_on_one_folder(tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path / "data", {"a": 3, "b": 3}, size=8)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import time; from pathlib import Path; from imgclf.core.files import locks, state_folder\n"
         "with locks.locked(state_folder.state_folder(Path('data')), 'clean'):\n print('held', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    with holder:
        assert holder.stdout
        holder.stdout.readline()
        done = imgclf("clean")
        holder.kill()
    assert done.returncode == 1
    since = time.strftime("%Y-%m-%d %H:")
    assert done.stderr.startswith(f"imgclf: error: data: in use by imgclf clean (process {holder.pid}, since {since}")
    assert done.stderr.endswith("); wait for it to finish and try again\n")
    assert imgclf("clean").returncode == 0


def test_json_is_the_only_thing_on_stdout(project: Path, imgclf: Run) -> None:
    for arguments in (["clean"], ["preview"], ["split", "--force"], ["evaluate", "data"], ["predict", "data/red/000.png"]):
        done = imgclf(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        json.loads(done.stdout)


def test_names_in_other_scripts_and_encodings(tmp_path: Path, imgclf: Run) -> None:
    """Under an ASCII locale: class names and paths come through unharmed."""
    data = make_classes(tmp_path / "data", {"猫": 12, "собака": 12})
    odd = os.fsdecode(b"caf\xe9.png")
    os.rename(data / "猫" / "000.png", data / "猫" / odd)
    plain = {**os.environ, "LC_ALL": "C"}
    for arguments in (["clean"], ["split"], ["train", "--epochs", "1"], ["evaluate"], ["preview"]):
        done = imgclf(*arguments, env=plain)
        assert done.returncode == 0, (arguments, done.stderr)
    done = imgclf("predict", f"data/猫/{odd}", "--json", env=plain)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["input"] == f"data/猫/{odd}"
