"""What a page draws: the graph around an op, the errors of its values, timings."""
