"""Many runs as one matrix of models and devices."""
