"""What is loaded when: asserted by sys.modules in a process of its own, never by seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_classes

HEAVY = {
    "tensorflow", "keras", "pandas", "matplotlib", "cv2", "numpy", "ai_edge_litert", "starlette", "uvicorn", "pydantic",
}  # fmt: skip

# Of the standard library: each costs `--help` a few milliseconds of a tenth of a second, and together a quarter of it.
SLOW = {"sqlite3", "tempfile", "tomllib", "hashlib", "zipfile", "socket", "email", "logging", "importlib.metadata"}


def loaded(*arguments: str, cwd: Path, of: set[str] = HEAVY) -> set[str]:
    """The packages `of` a kind that one command has imported when it ends."""
    return loaded_after(f"import sys; sys.argv = ['imgclf', *{list(arguments)!r}]", cwd, of)


def loaded_after(preparation: str, cwd: Path, of: set[str] = HEAVY) -> set[str]:
    """The packages `of` a kind that are imported when a command ends. preparation: code that runs before it."""
    code = f"""
import json, sys
{preparation}
from imgclf.cli.app import app
try:
    app()
except SystemExit as end:
    assert not end.code, end.code
finally:
    print(json.dumps(sorted(set(sys.modules) & set({sorted(of)!r}))), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["train", "--help"], set()),
        (["export", "--help"], set()),
        (["clean", "data"], {"cv2", "numpy"}),
        (["preview", "data"], {"cv2", "numpy"}),
        (["split", "data", "--force"], {"cv2", "numpy"}),
        (["predict", "data/red/000.png"], {"cv2", "numpy", "ai_edge_litert"}),
        (["explain", "data/red/000.png"], {"cv2", "numpy", "ai_edge_litert"}),
        (["runs", "list"], {"numpy"}),
        (["schema", "clean"], set()),
        (["evaluate", "data"], {"cv2", "numpy", "ai_edge_litert", "pandas", "matplotlib"}),
    ],
)
def test_heavy_packages_load_only_where_they_are_used(arguments: list[str], expected: set[str], project: Path) -> None:
    assert loaded(*arguments, cwd=project) == expected


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_no_more_than_it_needs(arguments: list[str], tmp_path: Path) -> None:
    assert loaded(*arguments, cwd=tmp_path, of=SLOW) == set()


def test_serve_never_loads_tensorflow(project: Path) -> None:
    """Until it answers, and after a prediction and a look."""
    preparation = """
import sys, threading, urllib.request, os, signal
sys.argv = ["imgclf", "serve", "--port", "0"]
from imgclf.cli.shared import console
def ready(url):
    def ask():
        image = open("data/red/000.png", "rb").read()
        for path in ("predict", "explain"):
            urllib.request.urlopen(url + path, image).read()
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=ask).start()
console.data_now = ready
"""
    assert loaded_after(preparation, project) == {"cv2", "numpy", "ai_edge_litert", "starlette", "uvicorn"}


def test_importing_imgclf_costs_nothing() -> None:
    code = "import sys; before = set(sys.modules); import imgclf; print(sorted(set(sys.modules) - before))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "['imgclf']\n"


def test_a_missing_libgl_is_one_line(tmp_path: Path) -> None:
    """A cv2 that fails to load as it does on a server: the real message of the dynamic loader, from a stand-in module."""
    make_classes(tmp_path / "data", {"a": 1, "b": 1}, size=8)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path.insert(0, 'broken'); sys.argv = ['imgclf', 'clean']\n"
         "from imgclf.cli.app import main; main()"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("imgclf: error: OpenCV does not load (libGL.so.1: cannot open shared object file")
    assert "pip install opencv-python-headless" in done.stderr
    assert done.stderr.count("\n") == 1
