"""Test a LiteRT file of unknown origin in a separate process before this one loads it.

LiteRT allocates as much memory as the file demands: one changed byte made it allocate 8 GB. A child process with limits on
memory and time predicts one random image. Files that pass are recorded in the user's cache, so the child (0.2 s) runs once for
each file.
"""

import contextlib
import hashlib
import json
import math
import os
import struct
import subprocess
import sys
from importlib import resources
from pathlib import Path

from imgclf.core.errors import ImgclfError
from imgclf.core.files import contained
from imgclf.core.files.paths import cache_folder
from imgclf.core.remedies import why

# Limits in bytes: fixed, per byte of the file, and per pixel. A 1024 x 1024 VGG network needs half of the limit.
_MEMORY, _MEMORY_OF_BYTE, _MEMORY_OF_PIXEL = 1 << 28, 8, 4096
_SECONDS, _SECONDS_OF_PIXEL = 3.0, 1e-4  # CPU time: fixed, and per pixel. VGG19 needs 80 s for 1024 x 1024 pixels
_TIMEOUT_FACTOR = 20  # elapsed time may be so many times the CPU time, for busy machines


def check(file: Path, sha256: str, side: tuple[int, int], outputs: int) -> None:
    """Raise ImgclfError unless LiteRT computes probabilities with this file.

    sha256: of the file's content. side: height and width of the input. outputs: expected number of outputs.
    """
    mark = _mark(sha256, side, outputs)
    folder = cache_folder() / "probed"
    if (folder / mark).exists():
        return
    problem = _problem(file, side, outputs)
    if problem:
        raise ImgclfError(f"{file}: broken run: the model cannot be used: {problem}; copy the run folder again or retrain")
    _keep(folder, mark)


def remember(sha256: str, side: tuple[int, int], outputs: int) -> None:
    """Record a file that this process wrote as passed, so that it is never tested."""
    _keep(cache_folder() / "probed", _mark(sha256, side, outputs))


def _mark(sha256: str, side: tuple[int, int], outputs: int) -> str:
    litert = resources.files("ai_edge_litert")  # installing another version changes the file's modification time
    version = os.stat(str(litert / "__init__.py")).st_mtime_ns
    return hashlib.sha256(f"{sha256} {side} {outputs} {version}".encode()).hexdigest()[:32]


def _keep(folder: Path, mark: str) -> None:
    with contextlib.suppress(OSError, ImgclfError), contained.at(folder, make=True) as place:  # if it fails, test again later
        os.close(place.create(mark))


def _problem(file: Path, side: tuple[int, int], outputs: int) -> str:
    """Run the child, and return why the file cannot be used; "" if it can."""
    height, width = side
    seconds = math.ceil(_SECONDS + _SECONDS_OF_PIXEL * height * width)
    try:
        memory = _MEMORY + _MEMORY_OF_BYTE * file.stat().st_size + _MEMORY_OF_PIXEL * height * width
        task = json.dumps([os.fspath(file), height, width, outputs, memory, seconds])
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OPENBLAS_NUM_THREADS": "1",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-P", "-c", "from imgclf.models.litert_probe import _child; _child()", task],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
            timeout=seconds * _TIMEOUT_FACTOR, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it does not finish within {seconds * _TIMEOUT_FACTOR} s"
    except OSError as error:
        raise ImgclfError(f"{file}: cannot be tested in a separate process: {why(error, 'close other programs')}") from error
    if done.returncode or not done.stdout.startswith(b"tested "):
        return f"LiteRT crashes, needs more than {memory // 1_000_000:,} MB of memory, or needs more than {seconds} s"
    return done.stdout.removeprefix(b"tested ").decode("utf-8", "replace").strip()


def _child() -> None:
    """Test the file in the child process. Prints `tested ` and the problem, if there is one."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    file, height, width, outputs, memory, seconds = json.loads(sys.argv[1])
    _limit(memory, seconds)
    try:
        engine = Interpreter(file, num_threads=1)
        engine.allocate_tensors()
        problem = mismatch(engine, (height, width), outputs) or _branches(Path(file))
        if not problem:
            image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.float32)
            engine.set_tensor(engine.get_input_details()[0]["index"], image)
            engine.invoke()
            output = engine.get_tensor(engine.get_output_details()[0]["index"])
            is_valid = np.isfinite(output).all() and (output >= 0).all() and (output <= 1).all()
            problem = "" if is_valid else "its outputs are not probabilities (0 to 1)"
    except (ValueError, RuntimeError, MemoryError, OSError, struct.error) as error:
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    print("tested", problem, flush=True)
    os._exit(0)  # a crash of LiteRT at exit does not matter


def mismatch(engine: object, side: tuple[int, int], outputs: int) -> str:
    """Return how an interpreter's input differs from (1, h, w, 3) float32, or its output from (1, outputs) float32.

    Returns "" if both are as expected. side: (h, w).
    """
    import numpy as np

    for name, wanted in (("input", (1, *side, 3)), ("output", (1, outputs))):
        details = getattr(engine, f"get_{name}_details")()
        if len(details) != 1:
            return f"it has {len(details)} {name}s, but must have exactly one"
        shape = tuple(int(length) for length in details[0]["shape"])
        if shape != wanted or details[0]["dtype"] != np.float32:
            kind = np.dtype(details[0]["dtype"]).name
            return f"its {name} is {kind} {shape}, but must be float32 {wanted}"
    return ""


def _branches(file: Path) -> str:
    """Refuse more than one subgraph: only loops and branches need them, and the length of a loop may depend on the image."""
    content = file.read_bytes()
    (root,) = struct.unpack_from("<I", content)
    (vtable,) = struct.unpack_from("<i", content, root)
    (field,) = struct.unpack_from("<H", content, root - vtable + 8)  # the third field of the table: its subgraphs
    (offset,) = struct.unpack_from("<I", content, root + field)
    (count,) = struct.unpack_from("<I", content, root + field + offset)
    return "" if count == 1 else f"it has {count} subgraphs, but must have exactly one"


def _limit(memory: int, seconds: int) -> None:
    """Limit the memory and CPU time of this process, on systems that support it."""
    if sys.platform == "win32":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
