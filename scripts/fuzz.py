"""Broken files, round after round, until the time is over or one does what it should not: `make fuzz MINUTES=10`.

The tests are those of tests/fuzz, which `make test` runs with few and always the same files. Here each round draws
others. Hypothesis keeps what it found in `.hypothesis`, and every run of the tests tries that first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

# Files for each of the targets in a round.
EXAMPLES = 2000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--models", default="", help="a folder whose .tflite files are broken too")
    words = parser.parse_args()
    end = time.monotonic() + 60 * words.minutes
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"FUZZ_DRAWN": "1", "FUZZ_EXAMPLES": str(EXAMPLES), "FUZZ_MODELS": words.models}
    rounds = 0
    while time.monotonic() < end:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "tests/fuzz"]
        done = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True, text=True)
        rounds += 1
        if done.returncode:
            print(done.stdout, done.stderr, sep="\n")
            return 1
        print(f"round {rounds}: {EXAMPLES:,} files for each target, none did what it should not", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
