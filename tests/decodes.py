"""Print the hash of the decoded pixels of every hostile file and of every ninth TIFF layout.

    python tests/decodes.py

A test runs it with different values of MALLOC_PERTURB_: pixels of uninitialised memory would change the hashes.
"""

import sys
import warnings

import tiffs
import xxhash
from hostile import files

from imgclf.core.errors import ImageError
from imgclf.images import decode


def main() -> None:
    warnings.simplefilter("ignore")  # Pillow warns about some files that it writes
    made = [(file.name, file.content) for file in files()]
    for number, layout in enumerate(tiffs.layouts()):
        if number % 9 == 0:
            made.append((str(layout), tiffs.written(layout, tiffs.samples(layout, number))))
    for name, content in made:
        try:
            decoded = decode.decode(content)
            print(repr(name), decoded.shape, xxhash.xxh3_128_hexdigest(decoded.data))
        except ImageError as error:
            print(repr(name), error.reason)


if __name__ == "__main__":
    sys.exit(main())
