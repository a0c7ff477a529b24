"""The process of a command: streams that were closed, warnings of others, and SIGTERM once and twice."""

import os
import signal
import subprocess
import sys
import warnings

import pytest

from imgclf.core import fields, process

BEGIN = "from imgclf.core import process; process.begin()\n"


def test_a_second_sigterm_ends_the_clean_up() -> None:
    code = f"import time\n{BEGIN}try:\n    print('ready', flush=True); time.sleep(60)\nfinally:\n    print('end', flush=True)\n"
    for again in (False, True):
        late = "    try:\n        time.sleep(60)\n    finally:\n        print('late', flush=True)\n"
        whole = code + (late if again else "")
        with subprocess.Popen([sys.executable, "-c", whole], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
            child.send_signal(signal.SIGTERM)
            assert child.stdout.readline() == "end\n"
            if again:
                child.send_signal(signal.SIGTERM)
            assert child.stdout.read() == ""
            assert child.wait(timeout=30) == process.TERMINATED == 143


def test_closed_streams_are_filled() -> None:
    """The next file would get the number of a closed one, and what is printed would be written into it."""
    code = (
        f"import os, sys\n{BEGIN}"
        "found = [os.path.samestat(os.fstat(number), os.stat(os.devnull)) for number in range(3)]\n"
        "print('lost'); print('lost', file=sys.stderr)\n"
        "sys.exit(0 if found == [False, True, True] else 1)"
    )
    closed = ["sh", "-c", '"$0" -c "$1" >&- 2>&-', sys.executable, code]
    assert subprocess.run(closed, stdin=subprocess.PIPE).returncode == 0


def test_warnings_of_others_are_passed_over_and_ours_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error,always::ResourceWarning,default")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        process._ignore_warnings_of_other_packages()
        assert os.environ["PYTHONWARNINGS"] == "always::ResourceWarning"
        for kind in (DeprecationWarning, UserWarning, RuntimeWarning):
            warnings.warn_explicit("of another", kind, "file.py", 1, module="numpy")
            with pytest.raises(kind):
                warnings.warn_explicit("ours", kind, "file.py", 1, module="imgclf.core")
        with pytest.raises(ResourceWarning):
            warnings.warn_explicit("left open", ResourceWarning, "file.py", 1, module="numpy")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    with warnings.catch_warnings():
        process._ignore_warnings_of_other_packages()
    assert "PYTHONWARNINGS" not in os.environ


def test_values_in_messages_are_short() -> None:
    assert fields._shown("x" * 58) == repr("x" * 58)
    assert fields._shown("x" * 59) == f"'{'x' * 56}..."
    assert fields._shown(10**5000) == "int"
