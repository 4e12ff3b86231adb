"""`harness lint --fix`: a model with what `lint` finds in it written anew, and what shows that it is the same model."""
