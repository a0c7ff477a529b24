"""Test the page of `imgclf serve` behind nginx and Caddy in headless Chromium: every cell of the matrix, with the camera.

    python tests/benchmarks/proxies.py RUN IMAGE

For each cell: page, script, model, prediction, explanation and, over TLS, a camera image. Needs nginx, caddy, openssl and
Chromium. RUN must predict `red` for IMAGE, like the run of the tests.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))
from conftest import chromium
from proxying import OPTIONS, before
from served import served
from test_serve_proxy import FLAGS, browse

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=Path)
parser.add_argument("image", type=Path)
given = parser.parse_args()
content = given.image.read_bytes()
with (
    tempfile.TemporaryDirectory() as folder,
    served(given.run.absolute(), *OPTIONS, cwd=Path(folder)) as server,
    chromium(*FLAGS) as browser,
):
    for proxy in ("nginx", "caddy"):
        with before(proxy, server.port, Path(folder) / proxy) as cells:
            for cell in cells:
                began = time.monotonic()
                browse(browser, cell, content)
                print(f"{cell}: passed, {time.monotonic() - began:.1f} s", flush=True)
