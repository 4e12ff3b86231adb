"""The verdict on a model's outputs in a sentence, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.localize.result import OutputVerdict


def sentence(outputs: Sequence[OutputVerdict], *, half: bool) -> str:
    """`PASS: the error is what float16 rounding predicts (2.4x, limit 16x).`, or how it fails."""
    kind = "float16" if half else "float32"
    wrong = [o for o in outputs if o.verdict == "wrong"]
    useless = [o for o in outputs if o.verdict == "precision"]
    if wrong:
        return f"FAIL: {_named(wrong)} wrong by more than {kind} rounding predicts ({ratio_and_limit(wrong)})."
    if useless:
        why = "; ".join(f"'{o.name}' is of no use: {o.shortfalls[0].words()}" for o in useless)
        return f"FAIL by precision: the error is what {kind} rounding predicts ({ratio_and_limit(useless)}), but {why}."
    return f"PASS: the error is what {kind} rounding predicts ({ratio_and_limit(outputs)})."


def ratio_and_limit(outputs: Sequence[OutputVerdict]) -> str:
    """`2.4x, limit 16x`, of the output that comes nearest to its limit or is furthest beyond."""
    worst = max((o.judgement for o in outputs), key=lambda j: j.ratio / j.limit)
    ratio = f"{worst.ratio:.1f}x" if worst.ratio < 100 else f"{worst.ratio:.3g}x"
    return f"{ratio if math.isfinite(worst.ratio) else 'NaN or infinite'}, limit {worst.limit:g}x"


def _named(outputs: Sequence[OutputVerdict]) -> str:
    names = [f"'{o.name}'" for o in outputs]
    if len(names) == 1:
        return f"output {names[0]} is"
    return f"{len(names)} outputs ({', '.join(names[:4])}{', …' if len(names) > 4 else ''}) are"
