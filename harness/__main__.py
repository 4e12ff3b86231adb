"""`python -m harness`: the program without its name on the path."""

from harness.cli import main

if __name__ == "__main__":
    main()
