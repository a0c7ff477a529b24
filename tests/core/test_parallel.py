"""Work on all cores: the order of results, how much is under way, and how it ends."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import pytest

from imgclf.core import parallel, progress, signals


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("imgclf")]


def test_results_come_in_order_and_as_soon_as_they_can() -> None:
    """Items that take longer come first; the source waits before the last one."""
    waits = threading.Event()

    def items() -> Iterator[int]:
        yield from range(6)
        waits.wait(30)
        yield 6

    def work(item: int) -> int:
        time.sleep(0.01 * (6 - item))
        return item * item

    results = parallel.ordered_map(work, items(), workers=3)
    assert [next(results) for _number in range(6)] == [0, 1, 4, 9, 16, 25]
    waits.set()
    assert list(results) == [36]
    assert threads() == []


def test_no_more_than_eight_items_a_worker_are_under_way() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(1000):
            taken += 1
            yield item

    with contextlib.closing(parallel.ordered_map(lambda item: item, items(), workers=2)) as results:
        for done in range(50):
            assert next(results) == done
            time.sleep(0.002)
            assert taken <= done + 1 + 16 + 1
    time.sleep(0.05)
    assert taken < 100, "a closed map takes no more"
    assert threads() == []


@pytest.mark.parametrize("where", ["work", "items"])
def test_an_error_is_raised_in_its_place(where: str) -> None:
    def items() -> Iterator[int]:
        for item in range(10):
            if where == "items" and item == 3:
                raise ZeroDivisionError("here")
            yield item

    def work(item: int) -> int:
        if where == "work" and item == 3:
            raise ZeroDivisionError("here")
        return item

    results = parallel.ordered_map(work, items(), workers=2)
    assert [next(results) for _number in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="here"):
        next(results)
    assert list(results) == []
    assert list(parallel.ordered_map(str, [])) == []
    assert threads() == []


def test_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 2, 5}, raising=False)
    assert parallel.cpu_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert parallel.cpu_count() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert parallel.cpu_count() == 1


def test_few_items_are_worth_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_arguments: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(parallel, "_Worker", never)
    monkeypatch.setattr(parallel, "cpu_count", lambda: 2)
    assert list(parallel.process_map(divmod, 100, range(1, 40))) == [divmod(100, item) for item in range(1, 40)]
    assert list(parallel.process_map(divmod, 100, list(range(1, parallel.WORTH_PROCESSES)))) == [
        divmod(100, item) for item in range(1, parallel.WORTH_PROCESSES)
    ]
    with pytest.raises(AssertionError, match="a process was started"):
        list(parallel.process_map(divmod, 100, list(range(1, parallel.WORTH_PROCESSES + 1))))


def test_a_stage_of_the_work() -> None:
    told: list[tuple[str, int, int]] = []
    assert progress.stage(None, "reading") is None
    step = progress.stage(lambda *one: told.append(one), "reading")
    assert step
    step(1, 2)
    assert told == [("reading", 1, 2)]


def test_signals_wait_for_the_end_of_a_block_and_handlers_come_back() -> None:
    import signal

    seen: list[int] = []
    with signals.handled(lambda number, _frame: seen.append(number), signal.SIGTERM):
        with signals.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == []
        assert seen == [signal.SIGTERM]
        with signals.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == [signal.SIGTERM]
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == [signal.SIGTERM] * 2, "a second one takes effect at once"
        assert seen == [signal.SIGTERM] * 3
        with signals.deferred():
            pass
        assert len(seen) == 3
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    done: list[object] = []

    def elsewhere() -> None:
        with signals.deferred():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == [signal.SIG_DFL]
