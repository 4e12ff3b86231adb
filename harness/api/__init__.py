"""What the commands do, as functions: models and inputs in, run folders and answers out."""
