"""The plugin comes by its entry point; nothing is needed here when the package is installed."""
