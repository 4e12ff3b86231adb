"""The shapes that the host's runtime computes for a model whose inputs have given ones.

The runtime is asked in a process of its own, `python -m harness.devices.shapes MODEL`, since a file that is not what it
says can end it. That reads `{"run": bool, "inputs": {"tensor": [sizes], …}}` on stdin and answers `{"shapes": [[sizes]
or null, …]}`, null for a tensor that gets its size only when it is computed, or `{"refused": reason}`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import harness
from harness.core import safe_json
from harness.core.errors import UsageError
from harness.core.signals import signal_name
from harness.devices.captured import captured
from harness.devices.scratch import Scratch
from harness.graph.model import Model

Shape = tuple[int, ...]

SECONDS = 120.0
ANSWER_BYTES = 64 << 20
"""Of some 30 for a tensor: room for two million tensors."""


class Unanswered(Exception):
    """The runtime does not prepare the model at these shapes; the text is its reason."""


class Undecided(Unanswered):
    """It gave no answer in time, or the system ended it: that says nothing of the model."""


def shapes_at(model: Model, inputs: Mapping[int, Shape], *, run: bool = False) -> dict[int, Shape | None]:
    """Tensor -> its shape when the input tensors named have the shapes given; None where only running tells. With
    `run` the model is run, on zeros. Of subgraph 0, which holds the model's first signature.

    Raises:
        Unanswered: the runtime refuses the model at these shapes, or dies of it. Undecided: it gave no answer.
    """
    scratch = Scratch("harness-shapes-")
    try:
        path = scratch.path / "model.tflite"
        path.write_bytes(model.to_bytes())
        given = [Path(path).absolute() for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        paths = os.pathsep.join(map(str, (Path(harness.__file__).parents[1], *given)))
        asked = scratch.path / "request.json"
        asked.write_text(json.dumps({"run": run, "inputs": {str(t): list(shape) for t, shape in inputs.items()}}))
        with asked.open("rb") as stdin:
            done = captured(
                [sys.executable, "-m", "harness.devices.shapes", path.name],
                SECONDS,
                most=ANSWER_BYTES,
                stdin=stdin,
                stderr=subprocess.DEVNULL,
                env=dict(os.environ, PYTHONPATH=paths),
                cwd=scratch.path,  # the runtime takes no path that is no UTF-8
            )
    except OSError as error:
        raise UsageError(f"The model cannot be prepared ({error.strerror}).", "Free space, or set TMPDIR.") from None
    finally:
        scratch.close()
    if done.killed == "time":
        raise Undecided(f"no answer within {SECONDS:g} s")
    if done.killed == "size":
        raise Unanswered(f"its process said more than {ANSWER_BYTES >> 20} MiB")
    if code := done.code:
        raise (Undecided if code == -signal.SIGKILL else Unanswered)(
            f"its process was ended by {signal_name(-code)}" if code < 0 else f"its process ended with exit code {code}"
        )
    answer = safe_json.loads(done.output)
    if "refused" in answer:
        raise Unanswered(answer["refused"])
    count = len(model.root.subgraphs[0].tensors or ())
    known: list[Any] = answer["shapes"][:count]  # the runtime adds tensors of its own behind
    return {t: None if shape is None else tuple(shape) for t, shape in enumerate(known)}


def _prepared(path: str, inputs: dict[int, list[int]], run: bool) -> dict[str, Any]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(path, experimental_op_resolver_type=plain, num_threads=1)
        for tensor, shape in inputs.items():
            interpreter.resize_tensor_input(tensor, shape)
        interpreter.allocate_tensors()
        if run:
            for detail in interpreter.get_input_details():
                interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
            interpreter.invoke()
    except (RuntimeError, ValueError, MemoryError) as error:
        # The bindings fail to decode a sentence that quotes a name which is no UTF-8.
        said = error.object.decode("utf-8", "replace") if isinstance(error, UnicodeDecodeError) else str(error)
        return {"refused": " ".join(said.split()) or type(error).__name__}
    shapes: list[list[int] | None] = []
    for detail in interpreter.get_tensor_details():
        index = int(detail["index"])
        shapes += [None] * (index + 1 - len(shapes))
        try:
            if detail["dtype"] is not np.object_:  # a variable's handle: reading that ends the process
                interpreter.tensor(index)()  # what is sized when it is computed has no memory yet
        except ValueError:
            continue
        shapes[index] = [int(d) for d in detail["shape"]]
    return {"shapes": shapes}


def main() -> None:
    """Answer for the model named on the command line."""
    asked = json.load(sys.stdin)
    inputs = {int(tensor): shape for tensor, shape in asked["inputs"].items()}
    sys.stdout.write(json.dumps(_prepared(sys.argv[1], inputs, asked["run"])))


if __name__ == "__main__":
    main()
