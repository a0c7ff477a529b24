"""Run tests/benchmarks/fuzz.py and fuzz_files.py for some seconds; by themselves they run for ten minutes."""

import subprocess
import sys
from pathlib import Path

import pytest

FILES = Path(__file__).parent / "benchmarks" / "fuzz_files.py"
FUZZ = Path(__file__).parent / "benchmarks" / "fuzz.py"


@pytest.mark.long
def test_no_bytes_break_the_decoder_or_the_checkpoint_reader(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="no build of atheris for this machine")
    done = subprocess.run(
        [sys.executable, FUZZ, "--seconds", "20", "--seed", "3"], cwd=tmp_path, capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done " in done.stderr
    assert list(tmp_path.glob("fuzz-*")) == []


@pytest.mark.parametrize(("kind", "least"), [("files", 100), ("runs", 10)])
def test_no_bytes_break_the_readers_of_foreign_files(kind: str, least: int, tmp_path: Path) -> None:
    """Files: archives, the index, manifest, reports, journal, plans. Runs: bundle, config, evaluation, checkpoint, network."""
    done = subprocess.run(
        [sys.executable, FILES, "--seconds", "8", "--seed", "5", "--only", kind],
        cwd=tmp_path, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split(" inputs")[0].replace(",", "")) > least
    assert list(tmp_path.glob("fuzz-*")) == []
