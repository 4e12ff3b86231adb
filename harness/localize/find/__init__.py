"""Which ops are wrong: taps, their checks, and the searches for where taps do not answer."""
