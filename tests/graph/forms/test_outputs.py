"""What is expected of each form says something: a device that writes nothing, or one value everywhere, cannot pass."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from harness.api.sweep.judging import useless
from harness.graph.forms.catalogue import every_form
from harness.graph.forms.contexts import build, contexts_of
from harness.graph.forms.form import Form

# The reference's kernels, as the host's worker has them.
PLAIN = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def faults(form: Form, context: str) -> list[str]:
    """What is wrong with a form's expected outputs: of another shape than stated, or useless."""
    built = build(form, context)  # type: ignore[arg-type]
    interpreter = Interpreter(model_content=built.model.to_bytes(), experimental_op_resolver_type=PLAIN)
    made = interpreter.get_signature_runner()(**built.inputs)
    graph, found = built.model.graph(), []
    for port in graph.outputs:
        stated = graph.tensors[port.tensor].shape
        if made[port.name].shape != stated:
            found.append(f"{port.name} is {made[port.name].shape}, not {stated}")
        elif why := useless(made[port.name]):
            found.append(f"{port.name}: {why}")
    return found


def check(forms: Sequence[Form]) -> None:
    bad = [(f.op, f.label, c, said) for f in forms for c in contexts_of(f) if (said := faults(f, c))]
    assert bad == []


def test_a_sample_of_the_forms_says_something() -> None:
    check(random.Random(5).sample(every_form(), 150))


@pytest.mark.slow
def test_every_form_says_something() -> None:
    check(every_form())
