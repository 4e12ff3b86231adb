"""This machine's runtime as a device, in the release that is installed or another."""
