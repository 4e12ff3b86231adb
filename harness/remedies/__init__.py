"""Rewrites of a graph that mean the same and that a device may get right where it got the original wrong."""
