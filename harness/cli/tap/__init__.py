"""`harness sam2 serve`: the tap page's command."""
