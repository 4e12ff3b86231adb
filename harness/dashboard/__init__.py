"""The dashboard: a static site over all runs of a results folder, built incrementally."""
