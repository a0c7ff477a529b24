"""Attack `imgclf serve` with hostile clients, and measure the response times of an honest client.

    python tests/benchmarks/hostile_clients.py RUN IMAGE [--connections 10000] [--rate 250]

Eight addresses (127.0.0.2 to 127.0.0.9) open connections of six kinds, and keep the newest 900 open: many requests whose
responses are never read; one byte of the headers per second; one byte of a body per second; nothing; bytes that are not HTTP;
the most expensive image that is still decoded, whose response is not read. The honest client, 127.0.0.1, repeats IMAGE, each
time on a new connection. Prints its times and failures with and without the attack, and the server's memory.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import http.client
import io
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from served import Server, served

HELD = 900
KINDS = ("never read", "slow head", "slow body", "silent", "not HTTP", "costly image")


def costly() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8000, 8000), (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def attack(port: int, count: int, rate: float) -> None:
    """Run the attack; called in a separate process."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    host, chance = b"Host: 127.0.0.1\r\n", random.Random(0)
    image = costly()
    starts = {
        "never read": (b"GET /serve.js HTTP/1.1\r\n" + host + b"\r\n") * 200,
        "slow head": b"GET / HTTP/1.1\r\n",
        "slow body": b"POST /predict HTTP/1.1\r\n" + host + b"Content-Length: 1000000\r\n\r\n",
        "silent": b"",
        "not HTTP": bytes(chance.randrange(256) for _byte in range(300)) + b"\r\n\r\n",
        "costly image": b"POST /predict HTTP/1.1\r\n" + host + b"Content-Length: %d\r\n\r\n" % len(image) + image,
    }
    held: collections.deque[tuple[str, socket.socket]] = collections.deque()
    began = last_drip = time.monotonic()
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        one = socket.socket()
        if kind == "never read":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(OSError):
            one.bind((f"127.0.0.{2 + number % 8}", 0))
            one.settimeout(5)
            one.connect(("127.0.0.1", port))
            one.setblocking(False)
            one.send(starts[kind])
        held.append((kind, one))
        while len(held) > HELD:
            held.popleft()[1].close()
        if time.monotonic() - last_drip > 1:
            last_drip = time.monotonic()
            for slow, other in held:
                if slow.startswith("slow"):
                    with contextlib.suppress(OSError):
                        other.send(b"x")
        time.sleep(max(0.0, began + number / rate - time.monotonic()))


def honest(server: Server, content: bytes, until: float) -> tuple[list[float], collections.Counter[str]]:
    """Send requests until a time; return the seconds of each, and the failures by kind."""
    seconds: list[float] = []
    failed: collections.Counter[str] = collections.Counter()
    while time.monotonic() < until:
        began = time.monotonic()
        one = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20, source_address=("127.0.0.1", 0))
        try:
            one.request("POST", "/predict", content)
            status = one.getresponse().status
            if status != 200:
                failed[str(status)] += 1
        except OSError as error:
            failed[type(error).__name__] += 1
        finally:
            one.close()
        seconds.append(time.monotonic() - began)
        time.sleep(0.05)
    return seconds, failed


def print_times(name: str, seconds: list[float], failed: collections.Counter[str]) -> None:
    ordered = sorted(seconds)
    print(
        f"{name}: {len(ordered)} requests, p50 {1000 * statistics.median(ordered):.0f} ms, "
        f"p99 {1000 * ordered[int(0.99 * len(ordered))]:.0f} ms, longest {1000 * ordered[-1]:.0f} ms, "
        f"failed {dict(failed) or 'none'}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=250, help="new hostile connections per second")
    given = parser.parse_args()
    content = given.image.read_bytes()
    with served(given.run.absolute(), cwd=Path.cwd()) as server:
        print_times("alone", *honest(server, content, time.monotonic() + 10))
        memory = [server.memory()]
        command = [sys.executable, __file__, "--attack", str(server.port), str(given.connections), str(given.rate)]
        seconds: list[float] = []
        failed: collections.Counter[str] = collections.Counter()
        with concurrent.futures.ThreadPoolExecutor(1) as threads, subprocess.Popen(command) as process:
            while process.poll() is None:
                more = threads.submit(honest, server, content, time.monotonic() + 3).result()
                seconds += more[0]
                failed += more[1]
                memory.append(server.memory())
        print_times(f"during {given.connections:,} hostile connections", seconds, failed)
        print("memory over time, MB:", *(f"{one:.0f}" for one in memory))
        print_times("afterwards", *honest(server, content, time.monotonic() + 10))
        began = time.monotonic()
        code, _err = server.end()
        print(f"SIGTERM: exit code {code} after {time.monotonic() - began:.1f} s; {os.cpu_count()} cores")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--attack"]:
        attack(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
