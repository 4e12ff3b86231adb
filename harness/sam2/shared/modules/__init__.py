"""The modules that are rewritten for the delegate, in PyTorch."""
