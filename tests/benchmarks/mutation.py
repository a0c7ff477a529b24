"""Change one thing in a module, run the tests that execute the changed line, and see whether one fails: mutation testing.

    python tests/benchmarks/mutation.py core data evaluation images --seed 23 --results /tmp/mutants.jsonl

Of all changes that `mutants.py` allows, --count are drawn for each folder of the package. A change that no test notices has
survived: a test is missing, or the change makes no difference (the two are not told apart). First it is recorded which test
executes which lines, in processes that tests start too. Then each change is tried in a fork of this process, which has imported
everything slow, by up to --most tests of the changed line that take up to --longest seconds together. Nothing in the tree is
written.

--lines: keep what is recorded, so that only test files that have changed are run again. --results: continue where the last run
ended. --again: try the survivors in that file once more, after new tests, or with more of them.
"""

import argparse
import builtins
import collections
import contextlib
import gc
import hashlib
import importlib
import inspect
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mutants import Mutant, hook, mutants

WARM = ("numpy", "cv2", "PIL.Image", "PIL.ImageOps", "sqlite3", "typer.testing", "rich.console", "xxhash")
TESTS = (
    "core", "data", "evaluation", "images", "test_clean.py", "test_split.py", "test_settings.py", "test_audit.py",
    "test_compare.py",
)  # fmt: skip
HERE = Path(__file__).parents[1]


class Recorder:
    """Which lines each test that passes runs, and how long it takes, with the fixtures that it shares with others."""

    def __init__(self, hits: Path) -> None:
        self.hits = hits
        self.tests: dict[str, dict[str, Any]] = {}
        self.bad: set[str] = set()
        self.shared: dict[str, tuple[float, set[str]]] = {}  # seconds and lines by fixture

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        start = time.perf_counter()
        done = yield
        if fixturedef.scope != "function":
            self.shared[fixturedef.argname] = time.perf_counter() - start, self.lines()
        return done

    def lines(self) -> set[str]:
        return set(self.hits.read_text().split()) if self.hits.exists() else set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        builtins.__dict__["__seen__"].clear()
        self.hits.unlink(missing_ok=True)
        start = time.perf_counter()
        done = yield
        if item.nodeid not in self.bad:
            shared = [self.shared[name] for name in getattr(item, "fixturenames", ()) if name in self.shared]
            seconds = time.perf_counter() - start + sum(one for one, _lines in shared)
            lines = self.lines().union(*(lines for _seconds, lines in shared))
            self.tests[item.nodeid] = {"seconds": round(seconds, 3), "lines": sorted(lines)}
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.bad.add(report.nodeid)

    def result(self) -> object:
        return self.tests


class Chosen:
    """Run only these tests, in this order, and keep the first that fails."""

    def __init__(self, tests: list[str]) -> None:
        self.order = {test: number for number, test in enumerate(tests)}
        self.failed = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid

    def result(self) -> object:
        return self.failed


def forked(work: Path, plan: dict[str, Any], files: list[str], plugin: Recorder | Chosen, limit: float) -> tuple[int, Any]:
    """(exit status of pytest, or -1 after `limit` seconds, result of the plugin) of tests in a child process."""
    answer = work / "answer"
    answer.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            log = os.open(work / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1), os.dup2(log, 2)
            os.environ["MUTATION"] = json.dumps(plan)
            hook()
            options = [
                "-x",
                "--assert=plain",
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "xdist.plugin",
                f"--basetemp={work / 'tests'}",
            ]
            status = int(pytest.main([*files, *options[2 * isinstance(plugin, Recorder) :]], [plugin]))
            answer.write_text(json.dumps(plugin.result()))
            os._exit(status)
        except BaseException:
            traceback.print_exc()
        os._exit(99)
    end = time.monotonic() + limit
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.monotonic() < end:
        time.sleep(0.01)
    late = time.monotonic() >= end
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return -1 if late else os.waitstatus_to_exitcode(status), json.loads(answer.read_text()) if answer.exists() else None


def record(options: argparse.Namespace, work: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """Seconds and executed lines by test, from the file `--lines` where a test file has not changed since."""
    known: dict[str, Any] = json.loads(options.lines.read_text()) if options.lines.exists() else {}
    paths = [one for path in options.tests for one in (sorted(path.rglob("test_*.py")) if path.is_dir() else [path])]
    for path in paths:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if known.get(str(path), {}).get("digest") == digest:
            continue
        start = time.monotonic()
        status, tests = forked(work, plan, [str(path)], Recorder(work / "hits"), options.seconds_per_file)
        print(f"{path}: {len(tests or ())} tests, {time.monotonic() - start:.0f} s, exit status {status}", flush=True)
        if tests:
            known[str(path)] = {"digest": digest, "tests": tests}
            options.lines.write_text(json.dumps(known))
    measured = {test: measured for path in paths for test, measured in known.get(str(path), {"tests": {}})["tests"].items()}
    return {test: {**one, "lines": set(one["lines"])} for test, one in measured.items()}


def choose(mutant: Mutant, tests: dict[str, Any], package: Path, count: int, seconds: float) -> list[str]:
    """Tests of the changed line: first those in the module's own test file, then those of its folder, the fastest first.

    No test runs what the import runs. Then tests of lines that name it come first, in other modules and tests that import it.
    """
    hit = {test for test, measured in tests.items() if f"{mutant.file}:{mutant.line}" in measured["lines"]}
    others = hit
    if mutant.names or not hit:
        module = mutant.file.removesuffix(".py").replace("/", ".")
        module = rf"{module}\b|from {module.rpartition('.')[0]} import .*\b{module.rpartition('.')[2]}\b"
        name = re.compile(rf"\b({'|'.join(mutant.names or ['$'])})\b")
        sources = {path.relative_to(package.parent).as_posix(): path.read_text("utf-8") for path in package.rglob("*.py")}
        near = {file: text for file, text in sources.items() if file == mutant.file or re.search(module, text)}
        lines = {
            f"{file}:{n}" for file, text in near.items() for n, line in enumerate(text.splitlines(), 1) if name.search(line)
        }
        hit |= {test for test, measured in tests.items() if not lines.isdisjoint(measured["lines"])}
        files = {file for file in {test.split("::")[0] for test in tests} if re.search(module, Path(file).read_text("utf-8"))}
        hit |= {test for test in tests if test.split("::")[0] in files}
        others = {test for test, measured in tests.items() if any(line.split(":")[0] in near for line in measured["lines"])}
    own, folder = f"test_{Path(mutant.file).stem}.py", Path(mutant.file).parts[1]

    def order(test: str) -> tuple[bool, bool, bool, float]:
        file = Path(test.split("::")[0])
        return test not in hit, file.name != own, folder not in file.parts, tests[test]["seconds"]

    taken: list[str] = []
    for test in sorted(others | hit, key=order):
        if len(taken) < count and (not taken or tests[test]["seconds"] <= seconds):
            taken.append(test)
            seconds -= tests[test]["seconds"]
    return taken


def attempt(mutant: Mutant, tests: dict[str, Any], options: argparse.Namespace, work: Path) -> str:
    """The test that fails with this change, `timeout`, or "" for none."""
    path = options.package.parent / mutant.file
    source = path.read_bytes()
    chosen = choose(mutant, tests, options.package, options.most, options.longest)
    if not chosen:
        return ""
    changed = source[: mutant.start] + mutant.after.encode() + source[mutant.end :]
    plan = {"file": str(path), "source": changed.decode()}
    usual = sum(tests[test]["seconds"] for test in chosen)
    status, failed = forked(work, plan, sorted({test.split("::")[0] for test in chosen}), Chosen(chosen), 4 * usual + 10)
    if status == 5:
        raise SystemExit(f"{mutant}: no tests were found")
    return "" if status == 0 else "timeout" if status == -1 else failed or f"exit status {status}"


def draw(options: argparse.Namespace, folder: str) -> list[Mutant]:
    found: list[Mutant] = []
    for path in sorted((options.package / folder).rglob("*.py")):
        name = path.relative_to(options.package.parent).as_posix()
        if not any(word in name for word in options.without) and (not options.only or name.endswith(options.only)):
            found += mutants(path, name)
    return random.Random(f"{options.seed} {folder}").sample(found, min(options.count, len(found)))


def report(tried: list[tuple[Mutant, str]]) -> None:
    """Killed and tried by module and folder, then the survivors."""
    table: dict[str, list[bool]] = collections.defaultdict(list)
    for mutant, by in tried:
        for name in (mutant.file, "/".join(mutant.file.split("/")[:2])):
            table[name].append(bool(by))
    for name, killed in sorted(table.items()):
        print(f"{name:44} {sum(killed):4}/{len(killed):<4} {sum(killed) / len(killed):4.0%}")
    for mutant, _by in sorted((one for one in tried if not one[1]), key=lambda one: (one[0].file, one[0].start, one[0].after)):
        print(f"survived: {mutant}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--package", type=Path, default=HERE.parent / "imgclf")
    parser.add_argument("--tests", type=Path, nargs="*", default=[HERE / name for name in TESTS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=300, help="changes of each folder")
    parser.add_argument("--only", default="", help="end of the path of the only module to change")
    parser.add_argument("--without", nargs="*", default=[], help="parts of paths of modules to leave as they are")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--seconds-per-file", type=float, default=600, help="limit of recording one test file")
    parser.add_argument("--most", type=int, default=40, help="tests of each change")
    parser.add_argument("--longest", type=float, default=6, help="seconds that the tests of each change may take unchanged")
    parser.add_argument("--results", type=Path, help="file of JSON lines to continue and to extend")
    parser.add_argument("--lines", type=Path, help="where to keep which test executes which lines")
    parser.add_argument("--warm", nargs="*", default=[], help="more modules to import before, such as keras")
    parser.add_argument("--again", action="store_true", help="try the survivors in --results again")
    options, start = parser.parse_args(), time.monotonic()
    for name in (*WARM, *options.warm):
        importlib.import_module(name)
    gc.freeze()  # a child need not go through all that for its garbage
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        options.package = options.package.resolve()
        options.lines = options.lines or work / "lines.json"
        options.results = options.results or work / "results.jsonl"
        (work / "sitecustomize.py").write_text(f"from typing import Any\n{inspect.getsource(hook)}\nhook()\n")
        sys.path.insert(0, folder)
        os.environ |= {"PYTHONPATH": folder, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        plan = {
            "root": f"{options.package.parent}{os.sep}",
            "package": f"{options.package}{os.sep}",
            "hits": str(work / "hits"),
        }
        tests = record(options, work, plan)
        lines = options.results.read_text().splitlines() if options.results.exists() else []
        known: dict[str, str] = {one["key"]: one["by"] for one in map(json.loads, lines)}
        tried = []
        for mutant in (one for name in options.folders for one in draw(options, name)):
            by = known.get(mutant.key)
            if time.monotonic() - start < options.seconds and (by is None or (options.again and not by)):
                begun = time.monotonic()
                by = attempt(mutant, tests, options, work)
                shutil.rmtree(work / "tests", ignore_errors=True)
                with options.results.open("a") as file:
                    file.write(json.dumps({"key": mutant.key, "by": by, "seconds": round(time.monotonic() - begun, 1)}) + "\n")
                print(f"{by or 'SURVIVED':60.60} {mutant}", file=sys.stderr, flush=True)
            if by is not None:
                tried.append((mutant, by))
        report(tried)


if __name__ == "__main__":
    main()
