"""How far two tensors are apart, and how far float16 alone would put them."""
