"""The ground that everything stands on; nothing here imports another part of the harness."""
