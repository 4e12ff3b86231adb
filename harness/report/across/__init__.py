"""One model on several devices: its ops beside each other, and what a release of the runtime changed."""
