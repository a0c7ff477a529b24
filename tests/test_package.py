"""Test the published files: a source distribution and a wheel made from it, each installed into a new environment."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import make_classes

import imgclf

ROOT = Path(__file__).parent.parent
NOT_PUBLISHED = shutil.ignore_patterns(
    ".git", ".venv", "*.egg-info", "build", "dist", "example", "runs", "__pycache__", ".*_cache"
)


def install(environment: Path, what: str) -> None:
    script = f"source examples/setup.sh && make_environment '{environment}' '{what}'"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_a_source_distribution_and_a_wheel_install_and_run(tmp_path: Path) -> None:
    pytest.importorskip("build")
    shutil.copytree(ROOT, tmp_path / "source", ignore=NOT_PUBLISHED)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", tmp_path / "dist"], cwd=tmp_path / "source", capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    (wheel,), (source,) = (tmp_path / "dist").glob("*.whl"), (tmp_path / "dist").glob("*.tar.gz")
    packaged = {str(path.relative_to(ROOT)) for path in (ROOT / "imgclf").rglob("*") if path.is_file()}
    packaged = {name for name in packaged if not name.endswith(".pyc")}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == packaged
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    with tarfile.open(source) as archive_:
        names = {name.partition("/")[2] for name in archive_.getnames()}
        assert packaged | {"README.md", "LICENSE", "pyproject.toml"} <= names

    environment, data = tmp_path / "environment", make_classes(tmp_path / "data", {"blue": 20, "red": 20})

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([environment / "bin" / "imgclf", *words], cwd=tmp_path, capture_output=True, text=True)

    install(environment, str(source))
    assert run("--version").stdout == f"imgclf {imgclf.__version__}\n"
    for words in (
        ["clean"], ["preview"], ["split"], ["train", "--epochs", "3", "--batch-size", "8", "--run-dir", "runs/toy"],
        ["evaluate"], ["predict", str(data / "red" / "000.png")], ["export"],
    ):  # fmt: skip
        done_ = run(*words)
        assert done_.returncode == 0, (words, done_.stderr)
    for words, extra in ((["serve"], "starlette>="), (["export", "--format", "onnx"], "tf2onnx>=")):
        done_ = run(*words)
        assert (done_.returncode, "Traceback" in done_.stderr) == (1, False)
        assert extra in done_.stderr
    subprocess.run([environment / "bin" / "python", "-m", "pip", "uninstall", "--quiet", "--yes", "imgclf"], check=True)
    install(environment, f"{wheel}[serve,onnx]")
    done_ = run("export", "--format", "onnx")
    assert done_.returncode == 0, done_.stderr
    server = subprocess.Popen(
        [environment / "bin" / "imgclf", "serve", "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    with server:
        assert server.stdout
        assert server.stdout.readline().startswith("http://127.0.0.1:")
        server.terminate()
    assert server.returncode == 0
