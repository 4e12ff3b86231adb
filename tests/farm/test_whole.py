"""A farm as it is used: everything is done once, no phone does two things at once, whatever dies meanwhile."""

from __future__ import annotations

import json

from tests.farm.conftest import SimulatedFarm


def test_sixty_jobs_are_done_once_each(farm: SimulatedFarm) -> None:
    farm.schedule()
    serials = [*farm.host("one"), *farm.host("two")]
    matrix = farm.matrix(devices=serials, commands=["compare", "localize", "bench"], repetitions=5)
    code, told = farm.run(matrix)
    assert (code, told["counts"]) == (0, {"done": 60})
    assert farm.ended() == dict.fromkeys(serials, 15)
    farm.check_never_two_at_once()
    assert json.loads((farm.folder / "out/matrix.json").read_text()) == told
    runs = {row["run"] for row in told["jobs"]}
    assert len(runs) == 60 and all((farm.folder / "out" / run / "run.json").exists() for run in runs)
