"""The hash of every decode of every hostile file and of each layout of TIFF that is drawn; started with other MALLOC_PERTURB_.

python tests/decodes.py
"""

import sys
import warnings

import tiffs
import xxhash
from hostile import files

from imgclf.core.errors import ImageError
from imgclf.images import decode


def main() -> None:
    warnings.simplefilter("ignore")  # Pillow's, of what it is asked to write
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
