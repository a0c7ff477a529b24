"""Metrics, intervals, label errors and saliency: NumPy only."""
