"""Test that settings of other software do not affect the six main commands, each in its own process."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, make_classes, write

COMMANDS = (
    ["clean", "data"],
    ["preview", "data"],
    ["split", "data"],
    ["train", "--epochs", "1", "--batch-size", "8", "--image-size", "16", "--model", "cnn-small", "--run-dir", "runs/one"],
    ["evaluate"],
    ["predict", "image.png", "--json"],
)
NOTEBOOK = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
USETEX = "text.usetex: True\nfont.size: 3\nsavefig.transparent: True\nbackend: TkAgg\n"
AS_PROCESS_1 = ["unshare", "--fork", "--pid", "--mount-proc"]  # like the command of a container

# keras.json, environment, matplotlibrc, words before the command. Settings that exclude each other are separate cases.
SETTINGS: dict[str, tuple[str, dict[str, str], str, list[str]]] = {
    "all": (
        '{"floatx": "bfloat16"}',
        {
            "KERAS_BACKEND": "jax", "KERAS_MAX_EPOCHS": "none", "TF_USE_LEGACY_KERAS": "1", "PYTHONWARNINGS": "error",
            "OPENCV_IO_MAX_IMAGE_PIXELS": "100", "OPENCV_IO_MAX_IMAGE_WIDTH": "ten", "COLUMNS": "0", **NOTEBOOK,
        },
        USETEX,
        AS_PROCESS_1,
    ),
    "channels-first": ('{"image_data_format": "channels_first", "epsilon": 0.1}', {}, "", []),
    "float16": ('{"floatx": "float16"}', {}, "", []),
    "float64": ('{"floatx": "float64"}', {}, "", []),
    "another backend": ('{"backend": "torch"}', {}, "", []),
    "no settings": ("[1]", {"PYTHONOPTIMIZE": "2", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "", []),
}  # fmt: skip


def run_command(before: list[str], command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command with stdin closed."""
    arguments = [*(before if _can_be_process_1() else []), sys.executable, "-m", "imgclf", *command]
    return subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *arguments], capture_output=True, timeout=300, **options)


@functools.cache
def _can_be_process_1() -> bool:
    """Whether this user can start process 1 of a namespace; only root can, and not in every container or chroot."""
    return shutil.which("unshare") is not None and subprocess.run([*AS_PROCESS_1, "true"], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "all" else pytest.mark.long) for name in SETTINGS])
def test_the_six_commands_with_hostile_settings(name: str, tmp_path: Path) -> None:
    keras_json, environment, matplotlibrc, before = SETTINGS[name]
    data = make_classes(tmp_path / "data", {"blue": 12, "red": 12}, size=16)
    shutil.copy(data / "red" / "000.png", tmp_path / "image.png")
    write(tmp_path / "home" / ".keras" / "keras.json", keras_json.encode())
    write(tmp_path / "keras.py", b"raise SystemExit('not the package')")
    if matplotlibrc:
        write(tmp_path / "matplotlibrc", matplotlibrc.encode())
    whole = {**os.environ, "HOME": str(tmp_path / "home"), **environment}
    for command in COMMANDS:
        done = run_command(before, command, cwd=tmp_path, env=whole)
        assert done.returncode == 0, (command, done.stderr.decode())
        assert b"Warning" not in done.stderr
    (record,) = json.loads(done.stdout)
    assert record["label"] in ("blue", "red")
    assert len([path for path in data.rglob("*.png") if ".imgclf" not in path.parts]) == 24, "no image is taken for damaged"
    assert (tmp_path / "home" / ".keras" / "keras.json").read_text() == keras_json


def test_settings_of_the_calling_process_are_restored(trained: Path, tmp_path: Path) -> None:
    code = """
import os, sys, threading
os.environ["MPLBACKEND"] = "svg"
import keras
keras.config.set_floatx("float64"); keras.config.set_image_data_format("channels_first"); keras.config.set_epsilon(0.5)
keras.config.set_dtype_policy("mixed_float16")
import matplotlib
matplotlib.rcParams["text.usetex"] = True
from pathlib import Path
import numpy as np
from imgclf.models.bundle import Bundle
from imgclf.models import keras_settings
from imgclf.reports import plots

def settings():
    config, usetex = keras.config, matplotlib.rcParams["text.usetex"]
    return config.floatx(), config.image_data_format(), config.epsilon(), config.dtype_policy().name, usetex

before = settings()
network = Bundle.load(Path(sys.argv[1])).network()
assert settings() == before
assert network(np.zeros((1, 32, 32, 3), np.float32)).dtype == "float32"
plots.png(plots.rates([0.1, 0.2], [1, 2], 0.1))
assert settings() == before, settings()
assert matplotlib.rcParams["backend"] == "svg"
inside, outside, out = threading.Event(), threading.Event(), []
def other():
    with keras_settings.pinned():
        inside.set(); outside.wait(); out.append((keras.config.floatx(), keras.config.dtype_policy().name))
thread = threading.Thread(target=other)
with keras_settings.pinned("mixed_bfloat16"):
    assert settings()[:4] == ("float32", "channels_last", 1e-7, "mixed_bfloat16")
    thread.start(); inside.wait()
assert settings()[0] == "float32", "another thread is still at work"
outside.set(); thread.join()
assert out == [("float32", "float32")]
assert settings() == before
try:
    with keras_settings.pinned():
        raise KeyError
except KeyError:
    pass
assert settings() == before
"""
    done = subprocess.run([sys.executable, "-c", code, trained / "runs" / "toy"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("redirection", ["<&-", "<&- >&-", "<&- 2>&-"])
def test_a_closed_stdin_is_a_usage_error(redirection: str, project: Path) -> None:
    for arguments in ("predict -", "predict --stdin-image", "predict -0 -", "explain -"):
        line = f"{sys.executable} -m imgclf {arguments} {redirection}"
        done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=project)
        assert done.returncode == 2, (line, done.stderr)
        if "2>&-" not in redirection:
            assert done.stderr.startswith("imgclf: error: stdin is closed")
            assert done.stderr.count("\n") == 1


@contextlib.contextmanager
def started(before: list[str], *arguments: str, cwd: Path) -> Any:
    """Start a command that waits; yield its process and a function that sends it SIGTERM."""
    command = [*before, sys.executable, "-m", "imgclf", *arguments]
    process = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def terminate() -> None:
        number = process.pid
        if before:  # unshare waits for its only child
            number = int(Path(f"/proc/{number}/task/{number}/children").read_text())
        os.kill(number, signal.SIGTERM)

    with process:
        try:
            yield process, terminate
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
@pytest.mark.parametrize("before", [pytest.param([], id="usual"), pytest.param(AS_PROCESS_1, id="process 1")])
def test_sigterm_ends_a_command(before: list[str], project: Path) -> None:
    if before and not _can_be_process_1():
        pytest.skip("only root can start process 1 of a namespace")
    (project / "inbox").mkdir()
    with started(before, "predict", "--watch", "inbox", "--move-to", "sorted", cwd=project) as (process, terminate):
        shutil.copy(project / "data" / "red" / "000.png", project / "inbox")
        assert process.stdout.readline()
        terminate()
        process.wait(20)
    assert process.returncode == 143
    assert [path.name for path in (project / "sorted").rglob("*.png")] == ["000.png"], "what it was at is brought to its end"
    with started(before, "serve", "--port", "0", cwd=project) as (process, terminate):
        assert process.stdout.readline().startswith("http://")
        terminate()
        process.wait(20)
    assert process.returncode == 0, "for a server, this is how it ends"
    # This command represents all others; it waits for its first path.
    with started(before, "explain", "-", cwd=project) as (process, terminate):
        time.sleep(2)
        terminate()
        process.wait(20)
    assert process.returncode == 143


@pytest.mark.skipif(not _can_be_process_1(), reason="only root can start process 1 of a namespace")
def test_sigterm_ends_a_training_as_process_1(project: Path) -> None:
    arguments = ["train", "--epochs", "500", "--batch-size", "8", "--image-size", "16", "--run-dir", "runs/long"]
    with started(AS_PROCESS_1, *arguments, cwd=project) as (process, terminate):
        lines = []
        while "images/s" not in (lines[-1] if lines else ""):
            lines.append(process.stderr.readline())
        assert process.stderr.readline()
        terminate()
        process.wait(60)
        rest = process.stderr.read()
    assert process.returncode == 143
    assert "continue with `imgclf train --resume runs/long`" in rest
    assert (project / "runs" / "long" / "checkpoint.npz").exists()


def test_scripts_with_names_of_packages_are_not_imported(project: Path, imgclf: Run) -> None:
    """`python -m imgclf` runs in a folder that contains scripts with the names of packages."""
    for name in ("keras", "tensorflow", "email", "cv2", "numpy", "rich"):
        write(project / f"{name}.py", b"raise SystemExit('not the package')")
    assert imgclf("predict", "data/red/000.png").returncode == 0


def test_which_warnings_are_hidden() -> None:
    """Warnings of other packages are hidden, except ResourceWarning. Our warnings follow the user's filters."""
    code = """
import gc, os, warnings
from imgclf.core import process
process.begin()
assert os.environ["PYTHONWARNINGS"] == "always::ResourceWarning"
warnings.warn("old", DeprecationWarning)
open(os.devnull)
gc.collect()
ours = compile("import warnings; warnings.warn('ours', UserWarning)", "ours", "exec")
try:
    exec(ours, {"__name__": "imgclf.module"})
except UserWarning:
    print("raised")
"""
    environment = {**os.environ, "PYTHONWARNINGS": "error,always::ResourceWarning"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "raised\n", done.stderr
    assert "ResourceWarning: unclosed file" in done.stderr
    assert "old" not in done.stderr


@pytest.mark.parametrize("columns", ["0", "1", "wide"])
def test_errors_are_printed_for_any_value_of_columns(columns: str, imgclf: Run) -> None:
    done = imgclf("predict", "x.jpg", "--run", "nope", env={**os.environ, "COLUMNS": columns})
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("imgclf: error: nope: no such run folder; ")
