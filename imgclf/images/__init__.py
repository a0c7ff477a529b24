"""Bytes to pixels: the decoder, the preprocessing, augmentation, and measurements of images."""
