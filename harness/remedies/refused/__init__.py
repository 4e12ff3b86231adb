"""Ops that a delegate refuses, or that a phone's refuses and a desktop's does not, as others that it takes."""
