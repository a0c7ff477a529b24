"""The mutation tester finds what tests notice and what they do not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = '''
LIMIT = 5  # tested


def capped(number: int) -> int:
    """At most LIMIT."""
    if number > LIMIT:
        return LIMIT
    return number


def unused(number: int) -> int:
    return number - 1
'''
TESTS = """
import subprocess, sys
from tiny.core.caps import capped

def test_capped():
    assert [capped(number) for number in (4, 9)] == [4, 5]

def test_in_a_process():
    subprocess.run([sys.executable, "-c", "from tiny.core.caps import capped; assert capped(9) == 5"], check=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each change runs in a fork")
def test_what_tests_notice_and_what_not(tmp_path: Path) -> None:
    for name, text in {"tiny/core/caps.py": MODULE, "tiny/__init__.py": "", "test_caps.py": TESTS}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").touch()
    program = str(Path(__file__).parent / "benchmarks" / "mutation.py")
    options = ["--package", "tiny", "--tests", "test_caps.py", "--results", "results"]
    command = [sys.executable, program, "core", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "tiny/core                                       5/9     56%",
        "tiny/core/caps.py                               5/9     56%",
        "survived: tiny/core/caps.py:7: number > LIMIT -> (number >= LIMIT)",
        "survived: tiny/core/caps.py:13: return number - 1 -> return None",
        "survived: tiny/core/caps.py:13: number - 1 -> (number + 1)",
        "survived: tiny/core/caps.py:13: 1 -> (2)",
    ]
    assert (tmp_path / "tiny/core/caps.py").read_text() == MODULE
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (again.stdout.splitlines()[1:], again.stderr) == (done.stdout.splitlines()[1:], "")  # it takes all from the file
