"""Recognise image file formats, read their headers, and decode what OpenCV cannot."""
