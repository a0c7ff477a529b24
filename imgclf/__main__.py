"""Run the command line: `python -m imgclf`."""

import sys

# `-m` puts the current folder first on sys.path. A keras.py or email.py there belongs to the user and must not shadow packages.
if not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))

from imgclf.cli.app import main

if __name__ == "__main__":
    main()
