"""A benchmark as one page: what was measured, whether it counts, and why."""
