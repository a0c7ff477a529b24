"""Measure `imgclf serve` under load: rate, latency and memory, compared with a plain loop and a plain Keras endpoint.

    python tests/benchmarks/serving.py RUN_FOLDER PHOTOS_FOLDER [--clients 32] [--requests 1500] [--rounds 3] [--soak 20000]

In each round, on the same photos in memory: decoding and the network in a plain loop over all cores (`ordered_map`), then as
many requests of one photo each over loopback to a separate server process. A third process makes the load with minimal HTTP
code on connections that stay open; it shares the cores with the server, and its CPU time is printed. Then the endpoint of many
tutorials, FastAPI around `model.predict` (if fastapi is installed; --keras 0 skips it), and --soak requests to `imgclf serve`
with its memory over time.
"""

import argparse
import itertools
import json
import os
import platform
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from imgclf.core.parallel import cpu_count, ordered_map
from imgclf.images import decode, preprocess
from imgclf.images.sources import expand
from imgclf.models.bundle import Bundle

TUTORIAL = """
import io, sys
import keras, numpy, uvicorn
from fastapi import FastAPI, Request
from PIL import Image

app, model = FastAPI(), keras.models.load_model(sys.argv[1])
names, size = sys.argv[3].split(","), model.input_shape[1:3]

@app.post("/predict")
async def predict(request: Request):
    image = Image.open(io.BytesIO(await request.body())).convert("RGB").resize(size[::-1])
    probabilities = model.predict(numpy.asarray(image, "float32")[None], verbose=0)[0]
    return {"probabilities": [float(one) for one in probabilities]}

uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


def load(port: int, folder: Path, clients: int, count: int) -> dict[str, Any]:
    """Send `count` photos over `clients` connections; return statuses, seconds of each request, and CPU seconds."""
    bodies = [path.read_bytes() for path in sorted(folder.iterdir())]
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n"
    requests = itertools.cycle([head.format(port, len(body)).encode() + body for body in bodies])
    selector = selectors.DefaultSelector()
    seconds: list[float] = []
    statuses: dict[str, int] = {}
    sent, cpu, began = 0, time.process_time(), time.perf_counter()
    begun: dict[socket.socket, float] = {}
    for _client in range(min(clients, count)):
        one = socket.create_connection(("127.0.0.1", port), timeout=120)
        selector.register(one, selectors.EVENT_READ, bytearray())
        begun[one] = time.perf_counter()
        one.sendall(next(requests))
        sent += 1
    while begun:
        ready = selector.select(timeout=120)
        if not ready:
            raise SystemExit("no response for two minutes")
        for key, _mask in ready:
            one, got = key.fileobj, key.data
            assert isinstance(one, socket.socket)
            block = one.recv(65536)
            got += block
            end = got.find(b"\r\n\r\n")
            if block and (end < 0 or len(got) < end + 4 + int(got.lower().split(b"content-length:")[1].split(b"\r\n")[0])):
                continue
            seconds.append(time.perf_counter() - begun[one])
            status = got[9:12].decode() or "closed"
            statuses[status] = statuses.get(status, 0) + 1
            got.clear()
            if sent < count and block:
                begun[one] = time.perf_counter()
                one.sendall(next(requests))
                sent += 1
            else:
                selector.unregister(one)
                one.close()
                del begun[one]
    return {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu, "seconds": seconds, "statuses": statuses}


def loaded(port: int, folder: Path, clients: int, count: int) -> dict[str, Any]:
    """Run `load` in a separate process."""
    command = [sys.executable, __file__, "--load", str(port), str(folder), str(clients), str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=3600)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def memory(pid: int) -> float:
    """Return the resident megabytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def print_rate(name: str, result: dict[str, Any]) -> float:
    """Print the results of a load and return its rate."""
    seconds = sorted(result["seconds"])
    rate = len(seconds) / result["wall"]
    print(
        f"{name}: {rate:.0f} images/s, p50 {1000 * statistics.median(seconds):.0f} ms, "
        f"p99 {1000 * seconds[int(0.99 * len(seconds))]:.0f} ms, statuses {result['statuses']}, "
        f"client {result['cpu'] / result['wall']:.1%} of one core",
        flush=True,
    )
    return rate


def tutorial_endpoint(run: Bundle, folder: Path, clients: int, count: int) -> float | None:
    """Return the rate of the endpoint of many tutorials, or None if FastAPI is not installed."""
    try:
        import fastapi  # noqa: F401
    except ImportError:
        return None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", TUTORIAL, run.path / "model.keras", str(port), ",".join(run.class_names)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    try:
        for _try in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        loaded(port, folder, clients, clients)  # the first calls trace the function
        return print_rate(
            f"FastAPI and model.predict, {count} requests of {clients} clients", loaded(port, folder, clients, count)
        )
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    if sys.argv[1:2] == ["--load"]:
        port, folder, clients, count = sys.argv[2:]
        print(json.dumps(load(int(port), Path(folder), int(clients), int(count))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=int, default=20_000)
    parser.add_argument("--keras", type=int, default=300, help="requests to the plain Keras endpoint; 0 for none")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    run = Bundle.load(options.run)
    paths = [Path(source.name) for source in expand([str(options.photos)])][:256]
    contents = [path.read_bytes() for path in paths]
    size = sum(map(len, contents)) / len(paths) / 1000
    print(
        f"{platform.machine()}, {cpu_count()} cores, shared by server and client; {run.info.model} at "
        f"{run.preprocessing.width} x {run.preprocessing.height}, {len(paths)} photos of {size:.0f} kB; "
        f"load average at the start {os.getloadavg()[0]:.1f}",
        flush=True,
    )

    def once(content: bytes) -> Any:
        return run.probability(preprocess.apply(run.preprocessing, decode.decode(content)))

    list(ordered_map(once, contents[:32]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, content in enumerate(contents):
            (folder / f"{number:04d}").write_bytes(content)
        command = [sys.executable, "-m", "imgclf", "serve", str(options.run), "--port", "0", "--workers", str(options.workers)]
        began = time.perf_counter()
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout
            port = int(server.stdout.readline().strip().rstrip("/").rpartition(":")[2])
            print(f"ready after {time.perf_counter() - began:.2f} s, {memory(server.pid):.0f} MB", flush=True)
            loaded(port, folder, options.clients, 200)
            loops, rates, ratios = [], [], []
            for _round in range(options.rounds):
                start = time.perf_counter()
                for _answer in ordered_map(once, itertools.islice(itertools.cycle(contents), options.requests)):
                    pass
                loops.append(options.requests / (time.perf_counter() - start))
                print(f"decode and network in a loop: {loops[-1]:.0f} images/s", flush=True)
                before = cpu_seconds(server.pid)
                result = loaded(port, folder, options.clients, options.requests)
                rates.append(print_rate(f"imgclf serve, {options.clients} clients", result))
                print(f"    server {(cpu_seconds(server.pid) - before) / result['wall']:.2f} cores", flush=True)
                ratios.append(rates[-1] / loops[-1])
            print(
                f"serve / loop: {statistics.median(rates) / statistics.median(loops):.3f} by medians, "
                f"{min(ratios):.3f} to {max(ratios):.3f} by rounds; {memory(server.pid):.0f} MB",
                flush=True,
            )
            if options.keras and (slow := tutorial_endpoint(run, folder, options.clients, options.keras)):
                print(f"serve / FastAPI and model.predict: {statistics.median(rates) / slow:.1f}", flush=True)
            done, megabytes, statuses = 0, [memory(server.pid)], {}
            while done < options.soak:
                count = min(2000, options.soak - done)
                for status, number in loaded(port, folder, options.clients, count)["statuses"].items():
                    statuses[status] = statuses.get(status, 0) + number
                done += count
                megabytes.append(memory(server.pid))
            if options.soak:
                print(
                    f"{done:,} more requests, statuses {statuses}; MB per 2,000: {', '.join(f'{one:.0f}' for one in megabytes)}"
                )
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
