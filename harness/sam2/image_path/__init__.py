"""The image path: encoder and mask decoder in LiteRT, from weights to masks."""
