"""`python -m imgclf`."""

import sys

# `-m` puts the current folder before all packages: a keras.py or email.py that lies there is the user's, and not what we mean.
if not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))

from imgclf.cli import main

if __name__ == "__main__":
    main()
