"""Metrics, intervals, calibration, label errors and saliency maps, computed with NumPy and OpenCV and without TensorFlow."""
