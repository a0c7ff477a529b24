"""`imgclf serve --workers`: what is shared, and what becomes of the others when one process ends."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from served import Server, served


def good(trained: Path) -> bytes:
    return (trained / "data" / "red" / "000.png").read_bytes()


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "runs" / "toy", tmp_path / "runs" / "toy"))


@pytest.fixture
def server(run: Path, tmp_path: Path) -> Iterator[Server]:
    with served(run, "--workers", 2, cwd=tmp_path) as one:
        yield one


def children(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait(holds: Callable[[], bool], seconds: float = 40) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def ready(server: Server) -> str:
    return server.ask("GET", "/readyz")[2].decode()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_share_the_port_and_the_counts_and_are_replaced(server: Server, trained: Path) -> None:
    for _request in range(20):
        assert server.predict(good(trained))[0] == 200

    def counted() -> str:
        return server.ask("GET", "/metrics")[2].decode()

    assert 'imgclf_images_total{result="predicted"} 20\n' in counted()
    assert "imgclf_processes 2\n" in counted()
    first = children(server)
    assert (len(first), ready(server)) == (2, "ready\n")
    os.kill(first[0], signal.SIGKILL)
    wait(lambda: len(children(server)) == 2 and first[0] not in children(server) and ready(server) == "ready\n")
    assert server.predict(good(trained))[0] == 200
    assert 'imgclf_images_total{result="predicted"} 21\n' in counted()
    second = children(server)
    server.process.kill()  # the others see that they are alone
    wait(lambda: not any(map(lives, second)))


def test_two_that_end_at_once_are_both_replaced(server: Server, trained: Path) -> None:
    for _turn in range(2):  # the second time, soon after their start
        before = children(server)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait(lambda before=before: len(children(server)) == 2 and not set(before) & set(children(server)))  # type: ignore[misc]
    wait(lambda: ready(server) == "ready\n")
    assert server.predict(good(trained))[0] == 200
    code, err = server.end()
    assert code == 0
    assert err.splitlines() == [
        *2 * ["a worker process is not running (signal 9); it is restarted in 0.5 s"],
        *2 * ["a worker process is not running (signal 9); it is restarted in 1 s"],
    ]


def test_one_that_cannot_start_again_leaves_the_other(server: Server, run: Path, trained: Path) -> None:
    """Its run folder was moved away meanwhile; it is tried again, and later each time, until the folder is back."""
    gone = run.rename(run.with_name("moved"))
    os.kill(children(server)[0], signal.SIGKILL)
    wait(lambda: ready(server) == "ready: 1 of 2 processes\n")
    time.sleep(4)  # some tries
    assert server.process.poll() is None
    assert ready(server) == "ready: 1 of 2 processes\n"
    assert "imgclf_processes 1\n" in server.ask("GET", "/metrics")[2].decode()
    assert server.predict(good(trained))[0] == 200
    gone.rename(run)
    wait(lambda: ready(server) == "ready\n")
    code, err = server.end()
    assert code == 0
    lines = err.splitlines()
    why = f"{run}: no such run folder; `imgclf runs list` shows the runs, `imgclf train` creates one"
    assert lines[0] == "a worker process is not running (signal 9); it is restarted in 0.5 s"
    assert lines[1] == f"a worker process is not running ({why}); it is restarted in 1 s"
    assert "Traceback" not in err


def test_sigterm_while_one_waits_to_be_started(server: Server, run: Path) -> None:
    run.rename(run.with_name("moved"))
    os.kill(children(server)[0], signal.SIGKILL)
    wait(lambda: len(children(server)) == 1)
    began = time.monotonic()
    assert server.end()[0] == 0
    assert time.monotonic() - began < 15


def test_one_that_cannot_start_at_all_ends_the_command(run: Path, tmp_path: Path) -> None:
    (run / "model.tflite").unlink()
    with (
        pytest.raises(AssertionError, match=r"model\.tflite: broken run: the file is missing"),
        served(run, "--workers", 2, cwd=tmp_path),
    ):
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_gone_is_still_explained(run: Path, tmp_path: Path, trained: Path, workers: int) -> None:
    """Each thread has a model of its own, made when it is needed."""
    with served(run, "--workers", workers, cwd=tmp_path) as server:
        shutil.rmtree(run)
        for _turn in range(3):
            status, headers, _body = server.ask("POST", "/explain?label=red", good(trained))
            assert (status, headers["content-type"]) == (200, "image/jpeg")
            assert server.predict(good(trained))[0] == 200
        status, _headers, body = server.ask("GET", "/model")
        assert (status, b'"on": "validation"' in body) == (200, True)


def test_a_process_that_cannot_be_made_is_tried_again() -> None:
    from imgclf.serve.meters import Meters
    from imgclf.serve.processes import _Worker

    class Ended:
        reason, began = "signal 9", time.monotonic()
        process = subprocess.Popen(["true"])

        def close(self) -> None:
            self.process.wait()

    made: list[object] = [Ended()]

    def start() -> object:
        if not made:
            raise OSError(11, "Resource temporarily unavailable")
        return made.pop()

    told: list[str] = []
    place = _Worker(start, Meters(), told.append)  # type: ignore[arg-type]
    Ended.process.wait()
    wait(lambda: place.watch() or len(told) == 2)  # type: ignore[func-returns-value]
    assert place.process is None
    assert told[0] == "a worker process is not running (signal 9); it is restarted in 0.5 s"
    assert told[1].endswith("it is restarted in 1 s")
    assert "Resource temporarily unavailable" in told[1]
