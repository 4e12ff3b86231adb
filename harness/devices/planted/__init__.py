"""Planted phones: known bugs of phones' GPUs, planted into what the host's CPU computes. No phone, and no GPU."""
