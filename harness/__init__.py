"""Find the operation that breaks a model on an on-device GPU."""

__version__ = "0.1.0"
