"""How long a model takes, measured so that a wrong figure says that it is wrong."""
