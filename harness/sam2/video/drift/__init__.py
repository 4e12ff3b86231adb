"""What float16 does to the tracker over time."""
