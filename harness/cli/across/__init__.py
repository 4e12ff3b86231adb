"""Commands that look at several devices at once."""
