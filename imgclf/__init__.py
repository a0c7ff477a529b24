"""imgclf: from a folder of pictures per class to a classifier you can trust."""

__version__ = "0.1.0"
