"""A Python that has ai-edge-litert, numpy and what these need, and nothing else: not this package, no pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def bare_python(folder: Path) -> Path:
    """Make the environment in a folder and return its python. The packages are linked, not installed again."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=300)
    (site,) = folder.glob("lib/python*/site-packages")
    wanted, done = ["ai-edge-litert", "numpy"], set()
    while wanted:
        name = wanted.pop()
        if name in done:
            continue
        done.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        wanted += [re.split(r"[^A-Za-z0-9._-]", need)[0] for need in found.requires or () if "extra" not in need]
        for top in {file.parts[0] for file in found.files or ()} - {".."}:
            target = Path(str(found.locate_file(top)))
            if target.exists() and not (site / top).exists():
                (site / top).symlink_to(target)
    return folder / "bin" / "python"


def run_script(python: Path | str, script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script far from this repository, with nothing of it on the path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment.setdefault("XDG_RUNTIME_DIR", str(script.parent))
    command = [str(python), "-I", str(script), *words]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=600, check=False)
