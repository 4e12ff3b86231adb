"""Devices of a farm that are lent to a program elsewhere, job by job, as a test session wants them."""
