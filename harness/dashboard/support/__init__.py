"""The support matrix of ops: its document, what two of them differ in, and its page."""
