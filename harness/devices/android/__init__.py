"""Phones: adb, the app, and what Android says of itself."""
