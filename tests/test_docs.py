"""Test README and examples: commands and options exist, and the examples run."""

import ast
import base64
import importlib
import os
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, encoded, make_classes
from PIL import Image

from imgclf.images import header

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def commands() -> list[str]:
    """Return every line in a block of README that calls imgclf."""
    lines = [re.sub(r"^\s*\$\s+", "", line).strip() for line in README.splitlines() if re.match(r"( {4}|\$ |imgclf )", line)]
    return sorted({line.split("  ")[0].split(" #")[0].strip() for line in lines if line.startswith("imgclf ")})


def test_readme_names_the_two_setup_commands_once_each() -> None:
    for line in ("bash examples/quickstart.sh", "bash tests/run.sh"):
        assert len(re.findall(rf"^    {re.escape(line)}$", README, re.MULTILINE)) == 1


def test_every_option_in_the_readme_exists(imgclf: Run) -> None:
    helps: dict[str, str] = {}
    found = commands()
    assert len(found) >= 12
    for line in found:
        words = line.split("|")[0].split()
        verb = " ".join(words[1:3]) if words[1] == "runs" else words[1]
        if verb.startswith("-"):
            continue
        if verb not in helps:
            done = imgclf(*verb.split(), "--help")
            assert done.returncode == 0, line
            helps[verb] = done.stdout
        for word in words[2:]:
            if word.startswith("-") and word != "-":
                assert re.search(rf"(^|\s|,){re.escape(word.split('=')[0])}\b", helps[verb]), line


def test_every_command_and_option_is_in_the_readme(imgclf: Run) -> None:
    verbs = re.findall(r"^  ([a-z]+)  ", imgclf("--help").stdout.partition("Data:")[2], re.MULTILINE)
    assert len(verbs) >= 13
    for verb in verbs:
        assert f"imgclf {verb}" in README
        for option in re.findall(r"^\s+(--[a-z-]+)", imgclf(verb, "--help").stdout, re.MULTILINE):
            assert option in README, (verb, option)


def test_make_dataset_example(tmp_path: Path) -> None:
    """Run make_dataset.py on a fake wheel with the same files, then `clean`, as in quickstart.sh."""
    wheel = tmp_path / "scikit_image-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for seed, name in enumerate(("brick", "grass", "gravel")):
            noise = np.random.default_rng(seed).integers(0, 256, (512, 512), dtype=np.uint8)
            archive.writestr(f"skimage/data/{name}.png", encoded(Image.fromarray(noise), "PNG"))
    script = ROOT / "examples" / "make_dataset.py"
    done = subprocess.run([sys.executable, script, wheel, tmp_path / "data"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'data'}: 306 files in 3 classes, ten of them faulty\n"
    from imgclf.clean import cleaning

    assert cleaning.clean(tmp_path / "data").counts() == {
        "kept": 296,
        "renamed": 4,
        "quarantined": 5,
        "ignored": 1,
        "stuck": 0,
        "reported": 0,
    }


def test_library_example(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 12, "b": 12})
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "library.py", data, tmp_path / "run"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy " in done.stdout
    assert (tmp_path / "run" / "bundle.json").exists()


@pytest.mark.long
def test_images_example(project: Path) -> None:
    script = [sys.executable, ROOT / "examples" / "images.py", "data", "runs/toy", "images"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=project)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "images/images.html\n"
    page = (project / "images" / "images.html").read_text("utf-8")
    shown = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(shown) == (9 if "skipped" not in done.stderr else 6)
    sizes = [header.header(base64.b64decode(one)) for one in shown]
    assert all(size.width >= 300 and size.height >= 100 for size in sizes)


def test_gate_example(tmp_path: Path) -> None:
    """The script cleans, splits, trains, checks the accuracy and sorts; an error stops it before it sorts."""
    data = make_classes(tmp_path / "data", {"blue": 30, "red": 30})
    (tmp_path / "inbox").mkdir()
    for name in ("blue", "red"):
        (data / name / "000.png").rename(tmp_path / "inbox" / f"{name}.png")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}

    def run(least: str) -> subprocess.CompletedProcess[str]:
        script = [ROOT / "examples" / "ci_gate.sh", "data", "inbox", least, "--epochs", "4", "--batch-size", "8"]
        return subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, env=environment)

    assert run("1.1").returncode == 2  # not a valid minimum
    (tmp_path / "runs").rename(tmp_path / "other")
    done = run("0.9")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "met: accuracy " in done.stderr
    assert done.stdout.splitlines()[-2:] == ["blue\tblue.png", "red\tred.png"]
    assert (tmp_path / "sorted/blue/blue.png").exists()
    assert (tmp_path / "sorted/red/red.png").exists()
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "script", ["examples/quickstart.sh", "examples/ci_gate.sh", "examples/setup.sh", "tests/run.sh", ".ci/run"]
)
def test_shell_scripts_parse_and_are_executable(script: str) -> None:
    assert subprocess.run(["bash", "-n", ROOT / script]).returncode == 0
    assert script == "examples/setup.sh" or os.access(ROOT / script, os.X_OK)


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"source {ROOT}/examples/setup.sh; make_environment {tmp_path}/venv ."],
        capture_output=True, text=True, env={"PATH": "/nonexistent", "PYTHON": "/bin/false"},
        executable="/bin/bash",
    )  # fmt: skip
    assert done.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in done.stderr


@pytest.mark.parametrize("script", sorted((ROOT / "tests" / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_use_existing_names(script: Path) -> None:
    """Benchmarks take too long to run here, but the names of imgclf that they use must exist."""
    nodes = list(ast.walk(ast.parse(script.read_text("utf-8"))))
    named = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "imgclf":
            for alias in node.names:
                try:
                    named[alias.asname or alias.name] = importlib.import_module(f"{node.module}.{alias.name}")
                except ModuleNotFoundError:
                    named[alias.asname or alias.name] = getattr(importlib.import_module(str(node.module)), alias.name)
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and isinstance(node.ctx, ast.Load):
            thing = named.get(node.value.id)
            if isinstance(thing, types.ModuleType):
                assert hasattr(thing, node.attr), f"{script.name}:{node.lineno}: {node.value.id}.{node.attr}"
