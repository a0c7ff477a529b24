"""The project's file sets defaults, options win; --quiet, --verbose and --no-color; each everywhere."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, make_classes, started, write
from described import as_described
from typer.testing import CliRunner

from imgclf.cli.app import app


def summary(imgclf: Run, *options: str) -> str:
    """What the network of a training would take in, as `64 x 64 x 3`."""
    done = imgclf("train", "--summary", "--json", *options)
    assert done.returncode == 0, done.stderr
    return str(as_described("train-summary", json.loads(done.stdout))["layers"][0]["output"])


def test_defaults_and_options_that_win(tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path / "photos", {"a": 12, "b": 12})
    (tmp_path / "imgclf.toml").write_text('data = "photos"\n[train]\nimage-size = 48\nno-flip = true\n')
    assert summary(imgclf) == "48 x 48 x 3"
    assert summary(imgclf, "--image-size", "64") == "64 x 64 x 3"
    done = imgclf("split", "-v")
    assert done.returncode == 0
    assert "from imgclf.toml: data photos" in done.stderr
    (tmp_path / "imgclf.toml").rename(tmp_path / "kept")
    assert imgclf("split").returncode == 1  # no folder `data`
    (tmp_path / "pyproject.toml").write_text('[tool.imgclf]\ndata = "photos"\n[tool.imgclf.train]\nimage_size = 56\n')
    assert summary(imgclf) == "56 x 56 x 3"
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    assert imgclf("split").returncode == 1


def test_flags_of_the_file(tmp_path: Path, imgclf: Run) -> None:
    """`no-flip = true` and `flip = false` are one; what goes alone on a command line still does beside a file."""
    make_classes(tmp_path / "data", {"a": 12, "b": 12})
    for text, expected in (("no-flip = true", False), ("flip = false", False), ("no-flip = false", True)):
        (tmp_path / "imgclf.toml").write_text(f"[preview]\n{text}\naugmented = true\n")
        assert f"from imgclf.toml: augmented True, flip {expected}\n" in imgclf("preview", "-v").stderr
    (tmp_path / "imgclf.toml").write_text("[train]\nno-flip = true\nepochs = 1\nprogressive = false\nema = 0.0\n")
    done = imgclf("train", "--run-dir", "runs/one", "--json", "--image-size", "32")
    assert done.returncode == 0, done.stderr
    assert as_described("train", json.loads(done.stdout))["config"]["flip"] is False
    (tmp_path / "imgclf.toml").write_text('[train]\nepochs = 3\n[clean]\npolicy = "strict"\n[split]\nseed = 3\n')
    assert "nothing to resume" in imgclf("train", "--resume", "runs/one").stderr
    assert imgclf("clean", "--undo").returncode == 0
    assert imgclf("split", "--export", "out").returncode == 0
    assert imgclf("train", "--resume", "runs/one", "--epochs", "30").returncode == 2


def test_the_command_line_wins(project: Path, imgclf: Run) -> None:
    """Over what it excludes, too; and --verbose tells what is in force, no more."""
    photo = "data/red/000.png"
    (project / "imgclf.toml").write_text(
        '[predict]\njson = true\nmove-to = "out"\nthreshold = "0.9"\ntop = 2\n[clean]\ndry-run = true\n'
    )
    done = imgclf("predict", photo, "--csv", "--link-to", "linked", "--top", "1", "-v")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("input,label,probability,error\n")
    assert (project / photo).exists()
    assert len(list((project / "linked").rglob("*.png"))) == 1
    assert "from imgclf.toml: threshold 0.9\n" in done.stderr
    assert imgclf("predict", "--undo", "linked").returncode == 0
    assert imgclf("clean", "--history").returncode == 0
    (project / "imgclf.toml").write_text('[predict]\nmove-to = "out"\n')
    assert json.loads(imgclf("predict", photo, "--shard", "1/1", "--jsonl").stdout)["place"]["inputs"] == 1
    assert imgclf("predict", "--stdin-image", stdin=(project / photo).read_bytes()).returncode == 0
    assert (project / photo).exists()
    (project / "imgclf.toml").write_text('[split]\nlink = "copy"\n[train]\nrun-dir = "r"\n')
    assert imgclf("split", "data", "--check").returncode == 0
    assert imgclf("train", "data", "--summary").returncode == 0
    (project / "imgclf.toml").unlink()
    (project / "pyproject.toml").write_text("tool = 1\n")
    assert imgclf("predict", photo).returncode == 0


def test_the_run_of_the_file_is_that_of_every_command(project: Path, imgclf: Run) -> None:
    """Also where a run is an argument and no option."""
    shutil.copytree(project / "runs/toy", project / "runs/zz")  # of equal age: the last name is the newest
    assert imgclf("info").stdout.splitlines()[0].split() == ["run", "runs/zz"]
    (project / "imgclf.toml").write_text('run = "runs/toy"\n')
    assert imgclf("info").stdout.splitlines()[0].split() == ["run", "runs/toy"]
    assert imgclf("info", "zz").stdout.splitlines()[0].split() == ["run", "runs/zz"]
    assert imgclf("runs", "show").stdout.splitlines()[0].split() == ["run", "runs/toy"]
    (project / "imgclf.toml").write_text('[serve]\nrun = "none"\n')
    assert imgclf("serve").stderr.startswith("imgclf: error: none: no such run folder")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data = ", "imgclf.toml: cannot be read as TOML"),
        ("[trian]\nepochs = 3", "imgclf.toml: [trian] is not a command with options; available: audit, clean"),
        ("[train]\nepoch = 3", "imgclf.toml: [train] epoch: no such option; available: "),
        ("[train]\nepochs = 'many'", "imgclf.toml: [train] epochs = 'many': "),
        ("[train]\nepochs = true", "imgclf.toml: [train] epochs = True: not a valid value of --epochs"),
        ("[train]\nflip = 1", "imgclf.toml: [train] flip = 1: give true or false"),
        ("[train]\nmodel = 'vgg17'", "imgclf.toml: [train] model = 'vgg17': "),
        ("[clean]\nundo = 1", "imgclf.toml: [clean] undo: no such option"),
        ("colour = 'red'", "imgclf.toml: colour: only data, run, seed may stand above all sections"),
        ("format = 'onnx'", "imgclf.toml: format: only data, run, seed may stand above all sections"),
        ("[predict]\ntop = 2.7", "imgclf.toml: [predict] top = 2.7: give a whole number"),
        ("[runs]\nin = 'x'", "imgclf.toml: [runs] is not a command with options"),
        ("[" * 5000, "imgclf.toml: cannot be read as TOML"),
        (f"[train]\nepochs = 0x{'f' * 6000}", "imgclf.toml: epochs: the number is too large; give one below 2**63"),
        (f"[train]\nepochs{'.a' * 20000} = 1", "imgclf.toml: a: nested too deeply; options are values, or lists of values"),
        ("[clean]\non = [[['a']]]", "imgclf.toml: on: nested too deeply"),
        ("[clean]\non = 3", "imgclf.toml: [clean] on = 3: "),
    ],
)
def test_what_fits_no_option(text: str, words: str, tmp_path: Path, imgclf: Run) -> None:
    """What is wrong in a section stops the command of that section alone."""
    write(tmp_path / "imgclf.toml", text.encode())
    section = re.match(r"\[(train|clean|predict)\]", text)
    done = imgclf(section[1] if section else "split")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("imgclf: error: " + words)
    assert done.stderr.count("\n") == 1


def test_quiet_and_verbose(project: Path, imgclf: Run) -> None:
    """Quiet: data as ever, no talk, but what was skipped and errors; before the command or behind it."""
    write(project / "data" / "red" / "broken.png", b"x")
    loud = imgclf("evaluate", "data")
    for order in (("--quiet", "evaluate", "data"), ("evaluate", "data", "-q")):
        done = imgclf(*order)
        assert done.stdout == loud.stdout
        assert "wrote" in loud.stderr
        assert "wrote" not in done.stderr
        assert "that are not in the run's split and were not scored: 1" in done.stderr
    assert imgclf("predict", "data/red/000.png", "-q", "--run", "none").stderr.startswith("imgclf: error: none: no such run")
    done = imgclf("predict", "data/red/000.png", "--verbose")
    assert re.search(r" s, peak memory \d+ MB\n$", done.stderr)
    for verb in ("clean", "preview", "split", "train", "audit", "evaluate", "compare", "predict", "info"):
        shown = imgclf(verb, "--help").stdout
        assert all(option in shown for option in ("--quiet", "--verbose", "--no-color")), verb
    assert "--quiet" in imgclf("runs", "list", "--help").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal is made with pty")
def test_no_color(project: Path) -> None:
    """On a terminal: colours, unless --no-color or NO_COLOR says otherwise."""
    import pty

    def shown(*options: str, **environment: str) -> bytes:
        parent, child = pty.openpty()
        command = [sys.executable, "-m", "imgclf", "predict", "data/red/000.png", "none.png", *options]
        with started(command, stdout=child, stderr=child, cwd=project, env={**os.environ, "TERM": "xterm", **environment}):
            os.close(child)
            content = b""
            try:
                while block := os.read(parent, 4096):
                    content += block
            except OSError:  # Linux ends a terminal so
                pass
        os.close(parent)
        return content

    red = b"\x1b[31m"
    assert red in shown()
    assert red not in shown("--no-color")
    assert red not in shown(NO_COLOR="1")


BROKEN = {
    "latin-1 comment": "# caf\xe9\n[tool.other]\nx = 1\n".encode("latin-1"),
    "latin-1 value": '[project]\nauthors = "Jos\xe9"\n'.encode("latin-1"),
    "no TOML": b"[project\nname = ",
    "utf-16": '[project]\nname = "x"\n'.encode("utf-16"),
    "endless": b"[" * 5000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_pyproject_of_others_stops_nothing(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_classes(tmp_path / "data", {"a": 8, "b": 8}, size=8)
    write(tmp_path / "pyproject.toml", content)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["split"])
    assert (done.exit_code, "pyproject" in done.stderr) == (0, False), done.stderr


def test_a_section_of_ours_counts_whatever_stands_around_it(tmp_path: Path, imgclf: Run) -> None:
    """Beside a comment that is not UTF-8, and after a byte order mark; but it must be UTF-8 itself."""
    make_classes(tmp_path / "photos", {"a": 8, "b": 8}, size=8)
    for content in (
        "# caf\xe9\n[tool.imgclf]\ndata = 'photos'\n".encode("latin-1"),
        b"\xef\xbb\xbf[tool.imgclf]\ndata = 'photos'\n",
    ):
        write(tmp_path / "pyproject.toml", content)
        assert imgclf("split").returncode == 0
    write(tmp_path / "pyproject.toml", "[tool.imgclf]\ndata = 'caf\xe9'\n".encode("latin-1"))
    done = imgclf("split")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "imgclf: error: pyproject.toml: [tool.imgclf] is not UTF-8; save the file as UTF-8\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("imgclf.toml", b"data = "), ("imgclf.toml", 'data = "x"'.encode("utf-16")), ("imgclf.toml", b"[train]\nepochs = 0.5"),
        ("imgclf.toml", b"[trian]\nx = 1"), ("pyproject.toml", b"x = \n[tool.imgclf.train]\nepochs = 3"),
        ("pyproject.toml", b"tool.imgclf.data = "), ("pyproject.toml", b'[tool."imgclf"]\ncolour = 3'),
    ],
)  # fmt: skip
def test_a_broken_file_stops_only_commands_that_use_it(
    name: str, content: bytes, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project / name, content)
    monkeypatch.chdir(project)

    def imgclf(*words: str) -> Any:
        return CliRunner().invoke(app, words, prog_name="imgclf")

    done = imgclf("train", "--summary")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"imgclf: error: {name}: ")
    assert done.stderr.count("\n") == 1
    for words in (
        ["--version"], ["--help"], ["train", "--help"], ["schema"], ["schema", "train"], ["runs", "list"], ["runs", "show"],
        ["runs", "best"], ["info"], ["info", "toy"], ["clean", "--history"], ["clean", "--undo"],
    ):  # fmt: skip
        done = imgclf(*words)
        assert done.exit_code == 0, (words, done.stderr)
        assert "error" not in done.stderr
    assert "nothing was sorted into this folder" in imgclf("predict", "--undo", "data").stderr
    assert (f"{name}: " in imgclf("info").stderr) == (content[:7] != b"[train]")  # what it does not use is said


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of others stops nothing, our own is named with the remedy."""
    from imgclf.cli.shared import config_file
    from imgclf.core.errors import UsageError

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    write(tmp_path / "pyproject.toml", b"[tool.imgclf]")
    assert config_file.defaults(tmp_path) == (None, {})
    write(tmp_path / "imgclf.toml", b"")
    with pytest.raises(UsageError, match=r"imgclf.toml: cannot be read: Permission denied; ask its owner .*, or move it away"):
        config_file.defaults(tmp_path)
