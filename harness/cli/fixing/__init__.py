"""`harness lint --fix` on the command line: what is asked, and what a person sees of the answer."""
