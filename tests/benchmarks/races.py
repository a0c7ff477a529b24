"""Replace a folder by a link while files are moved out of it and back, 1,000 times; nothing outside the data folder may change.

    python tests/benchmarks/races.py [--rounds 1000]

Prints how many moves were made and how many were refused. Stops with an error at the first file that was moved wrongly.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from racing import race

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=1000)
rounds = parser.parse_args().rounds
with tempfile.TemporaryDirectory() as folder:
    began = time.monotonic()
    made, refused = race(Path(folder), rounds)
    print(f"{rounds:,} rounds in {time.monotonic() - began:.0f} s: {made:,} moves made, {refused:,} refused, none wrong")
