"""Why an op is wrong, and what makes it right: experiments, a reproducer, remedies tried."""
