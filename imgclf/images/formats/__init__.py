"""File formats of images: recognise them, read their headers, decode what OpenCV cannot."""
