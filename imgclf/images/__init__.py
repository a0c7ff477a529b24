"""Turn bytes into pixels: decoding, preprocessing, augmentation, and measurements of images."""
