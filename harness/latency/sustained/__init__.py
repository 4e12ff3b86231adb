"""A benchmark over minutes: the staircase of latency, and whether the device slowed down."""
