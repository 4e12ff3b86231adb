"""Whether two runs of a model on the same inputs give the same: not where it keeps state, or draws random numbers."""

from __future__ import annotations

from harness.core.errors import UsageError
from harness.graph.model import Model
from harness.graph.subgraphs import called

_WHY = {
    "ASSIGN_VARIABLE": "keeps a state that the next run reads",
    "RANDOM_UNIFORM": "draws other numbers in each run",
    "RANDOM_STANDARD_NORMAL": "draws other numbers in each run",
    "MULTINOMIAL": "draws other numbers in each run",
}


def varying_op(model: Model) -> str:
    """The first op that each run of the first signature reaches and that makes its runs differ, and why, as a clause;
    empty where there is none. Variables that are set only once, when the model is loaded (CALL_ONCE), are constants."""
    names = [model.op_name(code)[0] for code in range(len(model.root.operatorCodes or ()))]
    reached = [model.graph().subgraph]
    for place in reached:
        for index, op in enumerate(model.root.subgraphs[place].operators or ()):
            name = names[op.opcodeIndex]
            if name in _WHY:
                where = "" if place == reached[0] else f" of subgraph {place}"
                return f"{name} #{index}{where} {_WHY[name]}"
            if name != "CALL_ONCE":
                reached += [s for s in called(op) if s not in reached and 0 <= s < len(model.root.subgraphs)]
    return ""


def check_repeatable(model: Model) -> None:
    """Runs that differ by themselves cannot be held against each other: the device would be blamed for that.

    Raises:
        UsageError: the runs of the first signature need not agree.
    """
    if found := varying_op(model):
        raise UsageError(
            f"Two runs of this model need not agree: {found}.",
            "Export it with that as an input, and a new state as an output; `harness run` takes it as it is.",
        )
