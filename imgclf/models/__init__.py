"""THE Sequential builder, pretrained backbones, LiteRT, and finished runs on disk."""
