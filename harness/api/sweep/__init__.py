"""Every form of every op on a device: what it computes rightly, wrongly, and not at all."""
