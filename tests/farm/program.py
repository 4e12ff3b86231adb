"""`python program.py FOLDER WORDS…`: stands for `harness WORDS…` on a phone that does not exist, which keeps a log.

FOLDER/<device>.json, else FOLDER/all.json, says how the phone is: `seconds` of a job, `fails` (device trouble, whatever
it is given), `breaks` (it crashes on all but the small model), `refuses` (it takes none but the small model).
FOLDER/<device>.log has a line for each beginning and each end of a job, written by the phone itself. Standard library
alone: it starts in no time.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path


def main() -> int:
    folder, command, model, *words = Path(sys.argv[1]), *sys.argv[2:]
    rest = [word for word in words if word not in ("--json", "--quick")]
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    device = options["--device"]
    plain = device.replace(":", "_")
    about = next((path for path in (folder / f"{plain}.json", folder / "all.json") if path.exists()), None)
    how = json.loads(about.read_text()) if about else {}
    probe = command == "run"
    asked = f"{Path(model).name} {options.get('--precision', '')} {options.get('--seed', '')}"

    def note(what: str) -> None:
        with (folder / f"{plain}.log").open("a") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            log.write(f"{what} {command} {asked} {time.monotonic():.4f}\n")

    busy = os.open(folder / f"{plain}.busy", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("OVERLAP")
        return 70
    note("probe" if probe else "begin")
    time.sleep(0.01 if probe else float(how.get("seconds", 0.1)))
    trouble = {"fails": "lost", "breaks": "crashed", "refuses": "refused"}
    failed = next((word for key, word in trouble.items() if how.get(key) and not (probe and key != "fails")), None)
    if failed:
        told = {"schema": 1, "status": "failed", "error": f"{device} is not well. Look at it.", "trouble": failed}
        sys.stdout.write(json.dumps(told))
        note("fail")
        return 3
    if not probe:
        run = Path(options["--out"]) / f"20260101T000000Z-{Path(model).stem}-{plain}"
        (run / "tensors").mkdir(parents=True)
        (run / "tensors" / "y.device.safetensors").write_bytes(os.urandom(int(how.get("bytes", 1000))))
        record = {"schema": 1, "command": command, "status": "done", "pid": os.getpid()}
        record |= {"started": "2026-01-01T00:00:00+00:00", "result": {"status": "pass"}}
        (run / "run.json").write_text(json.dumps(record))
        note("end")
    sys.stdout.write("{}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
