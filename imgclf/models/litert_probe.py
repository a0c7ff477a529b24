"""Test a LiteRT file of unknown origin in a separate process before this one loads it.

LiteRT allocates what the file asks for: one changed byte made it take 8 GB. A child with limits on memory and time computes
one random image. A file that passed is remembered in the user's cache, so the child (0.2 s) runs once for each file.
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

_MEMORY, _MEMORY_OF_BYTE, _MEMORY_OF_PIXEL = 1 << 28, 8, 4096  # bytes; a 1024 x 1024 VGG network takes half of it
_SECONDS, _SECONDS_OF_PIXEL = 3.0, 1e-4  # of the processor; 1024 x 1024 pixels through VGG19 take 80
_WAITING = 20  # times that, on a busy machine


def check(file: Path, sha256: str, side: tuple[int, int], outputs: int) -> None:
    """Raise ImgclfError unless LiteRT computes probabilities with this file.

    sha256: of the file's content. side: height and width of the input. outputs: how many probabilities it must give.
    """
    mark = _mark(sha256, side, outputs)
    folder = cache_folder() / "probed"
    if (folder / mark).exists():
        return
    problem = _tried(file, side, outputs)
    if problem:
        raise ImgclfError(f"{file}: broken bundle, the model cannot be used: {problem}; copy the run folder again or retrain")
    _keep(folder, mark)


def remember(sha256: str, side: tuple[int, int], outputs: int) -> None:
    """Remember a file that this process made, so that it is never tried."""
    _keep(cache_folder() / "probed", _mark(sha256, side, outputs))


def _mark(sha256: str, side: tuple[int, int], outputs: int) -> str:
    litert = resources.files("ai_edge_litert")  # installing another version gives the file another time
    version = os.stat(str(litert / "__init__.py")).st_mtime_ns
    return hashlib.sha256(f"{sha256} {side} {outputs} {version}".encode()).hexdigest()[:32]


def _keep(folder: Path, mark: str) -> None:
    with contextlib.suppress(OSError, ImgclfError), contained.at(folder, make=True) as place:  # without it, tried again
        os.close(place.create(mark))


def _tried(file: Path, side: tuple[int, int], outputs: int) -> str:
    """Why the file cannot be used; "" if it can."""
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
            timeout=seconds * _WAITING, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it does not finish within {seconds * _WAITING} s"
    except OSError as error:
        raise ImgclfError(f"{file}: cannot be tested in a separate process: {why(error, 'close other programs')}") from error
    if done.returncode or not done.stdout.startswith(b"tried "):
        return f"LiteRT crashes, needs more than {memory // 1_000_000:,} MB of memory, or needs more than {seconds} s"
    return done.stdout.removeprefix(b"tried ").decode("utf-8", "replace").strip()


def _child() -> None:
    """What the process runs: it prints `tried ` and why the file cannot be used."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    file, height, width, outputs, memory, seconds = json.loads(sys.argv[1])
    _limit(memory, seconds)
    try:
        engine = Interpreter(file, num_threads=1)
        engine.allocate_tensors()
        problem = unfit(engine, (height, width), outputs) or _branches(Path(file))
        if not problem:
            image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.float32)
            engine.set_tensor(engine.get_input_details()[0]["index"], image)
            engine.invoke()
            found = engine.get_tensor(engine.get_output_details()[0]["index"])
            problem = (
                ""
                if np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()
                else "its outputs are not probabilities (0 to 1)"
            )
    except (ValueError, RuntimeError, MemoryError, OSError, struct.error) as error:
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    print("tried", problem, flush=True)
    os._exit(0)  # what LiteRT does at exit does not count


def unfit(engine: object, side: tuple[int, int], outputs: int) -> str:
    """Why an interpreter does not take an image (1, h, w, 3) and give (1, outputs), both of float32; "" if it does."""
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
    """Refuse more than one subgraph: loops and branches call others, and a loop may depend on the image."""
    content = file.read_bytes()
    (root,) = struct.unpack_from("<I", content)
    (back,) = struct.unpack_from("<i", content, root)
    (field,) = struct.unpack_from("<H", content, root - back + 8)  # the third field of the table: its subgraphs
    (way,) = struct.unpack_from("<I", content, root + field)
    (count,) = struct.unpack_from("<I", content, root + field + way)
    return "" if count == 1 else f"it has {count} subgraphs, but must have exactly one"


def _limit(memory: int, seconds: int) -> None:
    """Limit what this process may take from now on, where the system can."""
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
