"""One module a rule; `harness.lint.catalogue` lists them."""
