"""imgclf: from a folder of pictures per class to a classifier you can trust."""

import os

__version__ = "0.1.0"

# OpenCV's own limits, a second guard where a header can be read in two ways. They are read when cv2 is loaded, so they stand
# here. A user's lower ones would make sound pictures look damaged.
for name, most in (("PIXELS", 1 << 27), ("WIDTH", 1 << 20), ("HEIGHT", 1 << 20)):
    os.environ[f"OPENCV_IO_MAX_IMAGE_{name}"] = str(most)
