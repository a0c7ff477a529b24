"""Test imgclf as a library: it restores everything that it changes in the calling process, also after errors."""

import asyncio
import concurrent.futures
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from imgclf.cli.train_output import TrainingDisplay
from imgclf.core import signals
from imgclf.core.config import ServeConfig, TrainConfig
from imgclf.core.errors import ImgclfError
from imgclf.models import keras_settings
from imgclf.models.bundle import Bundle
from imgclf.serve import serve
from imgclf.split import splitting
from imgclf.train import Epoch, Silent, train

CONFIG = TrainConfig(epochs=1, batch_size=8, image_size=32, model="cnn-small")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def process_state() -> dict[str, Any]:
    """Return all state of this process that imgclf changes."""
    import keras
    import tensorflow as tf

    return {
        "handlers": [signal.getsignal(one) for one in SIGNALS],
        "policy": keras.config.dtype_policy().name,
        "floats": (keras.config.floatx(), keras.config.image_data_format()),
        "strategy": type(tf.distribute.get_strategy()).__name__,
        "environment": dict(os.environ),
        "threads": cv2.getNumThreads(),
        "random": (random.getstate(), np.random.get_state()[1].tolist()),  # type: ignore[union-attr, index]
        "streams": (sys.stdin, sys.stdout, sys.stderr, sys.excepthook),
        "folder": os.getcwd(),
    }


class Fails(TrainingDisplay):
    """A display of the command that fails after the first epoch."""

    def epoch(self, epoch: Epoch, left: float) -> None:
        raise ZeroDivisionError


@pytest.fixture
def caller() -> Any:
    """Act as a program with its own signal handlers."""
    before = [signal.getsignal(one) for one in SIGNALS]

    def own(number: int, _frame: Any) -> None: ...

    for one in SIGNALS:
        signal.signal(one, own)
    yield own
    for one, handler in zip(SIGNALS, before, strict=True):
        signal.signal(one, handler)


def test_an_exception_in_a_training_leaves_everything_as_it_was(trained: Path, tmp_path: Path, caller: Any) -> None:
    before = process_state()
    with pytest.raises(ZeroDivisionError), Fails() as display:
        train(trained / "data", CONFIG, run_dir=tmp_path / "run", listener=display)
    assert process_state() == before
    assert before["handlers"] == [caller, caller]


def test_a_policy_that_keras_does_not_know_leaves_everything_as_it_was() -> None:
    before = process_state()
    with pytest.raises(ValueError, match="nonsense"), keras_settings.pinned("nonsense"):
        pass
    assert keras_settings._users == 0
    assert process_state() == before


def test_signal_handlers_are_restored(caller: Any) -> None:
    with pytest.raises(ZeroDivisionError), signals.handled(signal.SIG_IGN, *SIGNALS):
        assert [signal.getsignal(one) for one in SIGNALS] == [signal.SIG_IGN] * 2
        raise ZeroDivisionError
    assert [signal.getsignal(one) for one in SIGNALS] == [caller, caller]
    failed: list[BaseException] = []

    def in_thread() -> None:  # Python sets no handler in a thread
        try:
            with signals.handled(signal.SIG_IGN, *SIGNALS), TrainingDisplay() as display:
                assert signal.getsignal(signal.SIGINT) is caller
                display.started(Path("run"), ())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert failed == []


def test_an_ignored_signal_stays_ignored(caller: Any) -> None:
    """A script starts background jobs with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with TrainingDisplay() as display:
        display.started(Path("run"), ())
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def scores(run: Path) -> list[str]:
    return [line.rsplit(",", 3)[0] for line in (run / "history.csv").read_text().splitlines()]


def test_two_trainings_in_one_process_give_the_same_results_as_separate_ones(trained: Path, tmp_path: Path) -> None:
    """They run in threads at the same time, and with streams without file descriptors, as in a notebook."""
    code = (
        "import sys; from pathlib import Path; from imgclf.core.config import TrainConfig; from imgclf.train import train\n"
        "train(Path(sys.argv[1]), TrainConfig(epochs=1, batch_size=8, image_size=32, model='cnn-small'),"
        " run_dir=Path(sys.argv[2]))"
    )
    alone = subprocess.run(
        [sys.executable, "-c", code, str(trained / "data"), str(tmp_path / "alone")], capture_output=True, text=True
    )
    assert alone.returncode == 0, alone.stderr
    random.seed(7)  # the global generators of the caller have no effect
    before = process_state()
    with pytest.MonkeyPatch.context() as patch, concurrent.futures.ThreadPoolExecutor(2) as threads:
        patch.setattr(sys, "stderr", io.StringIO())
        both = [
            threads.submit(train, trained / "data", CONFIG, run_dir=tmp_path / name, listener=Silent())
            for name in ("first", "second")
        ]
        assert all(one.result() for one in both)
    assert process_state() == before
    expected = Bundle.load(tmp_path / "alone")
    image = np.full((32, 32, 3), 90, np.uint8)
    for name in ("first", "second"):
        assert scores(tmp_path / name) == scores(tmp_path / "alone"), name
        np.testing.assert_allclose(Bundle.load(tmp_path / name).probability(image), expected.probability(image), atol=1e-6)


def test_a_notebook_runs_everything_but_the_server(trained: Path, tmp_path: Path) -> None:
    """A notebook cell runs inside an event loop."""
    run = Bundle.load(trained / "runs" / "toy")

    async def cell() -> None:
        assert splitting.exists(trained / "data")
        assert run.probability(np.zeros((run.preprocessing.height, run.preprocessing.width, 3), np.uint8)).shape == (3,)
        with pytest.raises(ImgclfError, match="this thread already runs an event loop, as in a notebook"):
            serve(run, ServeConfig(port=0), ready=print)

    asyncio.run(cell())


def test_a_server_in_a_thread_responds(trained: Path) -> None:
    """The caller handles the signals; the server ends with the process."""
    code = (
        "import json, threading, urllib.request, queue, os, sys\n"
        "from imgclf.models.bundle import Bundle; from imgclf.serve import serve; from imgclf.core.config import ServeConfig\n"
        "from pathlib import Path\n"
        "urls = queue.Queue()\n"
        "run = Bundle.load(Path('runs/toy'))\n"
        "threading.Thread(target=serve, args=(run, ServeConfig(port=0), urls.put), daemon=True).start()\n"
        "print(json.dumps(json.load(urllib.request.urlopen(urls.get(timeout=60) + 'model'))), flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=trained, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
