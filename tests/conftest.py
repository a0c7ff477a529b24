"""Fixtures and helpers: small real files and folders, made for each test."""

import collections
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# Rich wraps lines at the width of the terminal, so the tests fix it.
os.environ["COLUMNS"] = "100"

# A script that runs the tests in the background makes them ignore Ctrl-C, and children inherit ignored and blocked signals.
# Restore the usual handlers here, so that the signals have their usual effect in all child processes.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)
if hasattr(signal, "pthread_sigmask"):
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

TIMEOUTS = {False: 600, True: 1800}  # seconds for a usual and for a long test, on a busy machine


def pytest_report_header(config: pytest.Config) -> str:
    return "" if config.pluginmanager.hasplugin("timeout") else "pytest-timeout is not installed: hanging tests are not stopped"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run files with the most long tests first, so that no process is idle while another runs them last."""
    long = collections.Counter(item.path for item in items if item.get_closest_marker("long"))
    items.sort(key=lambda item: -long[item.path])
    if config.pluginmanager.hasplugin("timeout"):
        for item in items:
            item.add_marker(pytest.mark.timeout(TIMEOUTS[item.get_closest_marker("long") is not None]))


@pytest.fixture(scope="session", autouse=True)
def _children() -> None:
    """Run commands as users do, but let them report unclosed resources; the fixture `imgclf` checks for these reports."""
    os.environ.pop("PYTHONDEVMODE", None)
    os.environ["PYTHONWARNINGS"] = SHOW_RESOURCE_WARNINGS


SHOW_RESOURCE_WARNINGS = "always::ResourceWarning"


@pytest.fixture(scope="session")
def shared_backbones(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return a folder for backbones as LiteRT files. Each takes ten seconds to make, so all test processes share them."""
    folder = tmp_path_factory.getbasetemp()
    made = (folder if worker_id == "master" else folder.parent) / "backbones"
    made.mkdir(exist_ok=True)
    return made


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, shared_backbones: Path) -> None:
    """Use a temporary cache folder, so that no test writes into the real one."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "imgclf").mkdir()
    (cache / "imgclf" / "backbones").symlink_to(shared_backbones)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def photo(seed: int, width: int = 60, height: int = 40) -> Image.Image:
    """Make a smooth colour image, different for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def bomb() -> bytes:
    """Make a small PNG whose header claims 20,000 x 20,000 pixels."""
    size = (20_000).to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", size + size + bytes([8, 0, 0, 0, 0]))
        + png_chunk(b"IDAT", zlib.compress(bytes(20_001 * 100)))
        + png_chunk(b"IEND", b"")
    )


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def make_classes(root: Path, counts: dict[str, int], size: int = 32) -> Path:
    """Make class folders that a small network can distinguish: each class has its own colour, with noise."""
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            random_ = np.random.default_rng(1000 * number + index)
            base = np.zeros((size, size, 3)) + 90
            base[..., number % 3] += 60
            if number >= 3:
                base[: size // 2] -= 60
            noisy = np.clip(base + random_.normal(0, 25, base.shape), 0, 255).astype(np.uint8)
            write(root / name / f"{index:03d}.png", encoded(Image.fromarray(noisy), "PNG"))
    return root


def tree(root: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder by relative path, except those in `.imgclf`."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".imgclf" not in path.relative_to(root).parts
    }


@contextlib.contextmanager
def chromium(*flags: str) -> Iterator[Any]:
    """Start a headless Chromium; skip the test if Chromium or Playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    try:
        engine = playwright.sync_playwright().start()
    except Exception as error:
        pytest.skip(f"Playwright does not start ({error}; Debian: apt-get install libatomic1)")
    made = engine.chromium.launch(executable_path=program, args=["--no-sandbox", *flags])
    yield made
    made.close()
    engine.stop()


@contextlib.contextmanager
def started(command: Sequence[object], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Start a process; wait for it at the end of the block, or kill it if the block raises an error."""
    with subprocess.Popen([str(word) for word in command], **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def imgclf(tmp_path: Path) -> Run:
    """Run the real command in `tmp_path`: `imgclf("clean", "data")`."""

    def run(*arguments: object, stdin: str | bytes = "", cwd: Path = tmp_path, **options: Any) -> Any:
        command = [sys.executable, "-m", "imgclf", *map(str, arguments)]
        content = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(command, input=content, capture_output=True, cwd=cwd, timeout=300, **options)
        errors = done.stderr.decode("utf-8", "replace")
        assert "ResourceWarning" not in errors, errors
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode("utf-8", "surrogateescape"), errors)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with `data` (three classes of 24) and a finished run of three epochs, `runs/toy`. Do not write into it."""
    from imgclf.core.config import SplitConfig, TrainConfig
    from imgclf.split import splitting
    from imgclf.train import train

    root = tmp_path_factory.mktemp("trained")
    make_classes(root / "data", {"blue": 24, "green": 24, "red": 24})
    splitting.split(root / "data", SplitConfig(train=17 / 24, val=4 / 24, test=3 / 24))  # 17, 4 and 3 of each class
    train(root / "data", TrainConfig(epochs=3, batch_size=8), run_dir=root / "runs" / "toy")
    return root


def with_temperature(run: Path, temperature: float) -> None:
    """Change the temperature of a finished run, because its own may be 1 or not, depending on the processor."""
    from imgclf.models.run_info import checksum

    info = json.loads((run / "bundle.json").read_bytes())
    info["calibration"]["temperature"] = temperature
    (run / "bundle.json").write_text(json.dumps({**info, "checksum": checksum(info)}))


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Path:
    """Copy `trained` to a folder in which a test may write."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def shuffled(items: list[Any], seed: int) -> list[Any]:
    items = list(items)
    random.Random(seed).shuffle(items)
    return items


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with two runs, `good` and `bad`, and an image."""
    from tiny import tiny_run

    monkeypatch.chdir(tmp_path)
    tiny_run(tmp_path / "runs/good")
    shutil.copytree("runs/good", "runs/bad")
    write(tmp_path / "photo.png", encoded(photo(1), "PNG"))
    return tmp_path
