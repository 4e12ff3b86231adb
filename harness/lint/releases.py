"""Releases of ai-edge-litert whose GPU delegate was asked."""

MEASURED = ("2.1.3", "2.1.5", "2.1.6", "2.2.0", "2.3.0")
