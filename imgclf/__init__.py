"""imgclf: from a folder of images per class to a classifier you can trust."""

import os

__version__ = "0.1.0"

# OpenCV's own size limits: a second guard for headers that can be read in two ways. cv2 reads them on import, so they are set
# here. Lower limits in the user's environment would make good images appear damaged.
for name, limit in (("PIXELS", 1 << 27), ("WIDTH", 1 << 20), ("HEIGHT", 1 << 20)):
    os.environ[f"OPENCV_IO_MAX_IMAGE_{name}"] = str(limit)
