"""Pictures in: the decoder, the resize recipe, augmentation."""
