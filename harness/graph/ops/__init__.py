"""What single ops are to numerics: what they compute, what they look through, what the delegate takes."""
