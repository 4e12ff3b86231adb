"""The tap page: a photo in a browser, a tap, and the device's mask beside the CPU's. `desk` answers, `app` is HTTP."""
