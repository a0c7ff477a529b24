"""imgclf: from a folder of pictures per class to a classifier you can trust."""

import os

__version__ = "0.1.0"

# OpenCV's own limit, a second guard where a header can be read in two ways. It is read when cv2 is loaded, so it stands here.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 27))
