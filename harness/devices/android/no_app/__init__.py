"""A phone without an app: LiteRT's own `run_model` over `adb shell`."""
