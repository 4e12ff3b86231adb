"""One model asked of several devices, and what differs between them."""
