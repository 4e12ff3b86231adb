"""A static check of a model for patterns that a GPU delegate takes without a word and computes wrongly."""
