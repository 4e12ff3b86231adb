"""What is known of GPU delegates: patterns over a model's graph, what comes of them, where, and what helps."""
