"""Every form, and every op of the schema that has none, with why."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from harness.core.errors import UsageError
from harness.graph.forms import elementwise, integers, joining, layers, layout, pairs, patterns, quantized, reductions
from harness.graph.forms.form import Form
from harness.graph.model import BUILTIN_OPS

_NO_VALUES = "its result is the same whatever the values"
_OPEN_SIZE = "the size of its result is known only when it runs, so no delegate takes it"
_SUBGRAPHS = "it runs other subgraphs, which stay on the CPU"
_STATE = "it keeps a state between runs, so that two runs are not the same question"
_STRINGS = "it works on strings or on tables of them"
_COMPLEX = "it works on complex numbers"
_STABLEHLO = "converters write the builtin op of that meaning"
_MARK = "it is no op that a file holds"

_WHY: dict[str, Sequence[str]] = {
    _NO_VALUES: ("SHAPE", "RANK", "ZEROS_LIKE", "FILL", "RANGE", "BROADCAST_ARGS"),
    _OPEN_SIZE: ("WHERE", "UNIQUE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"),
    _SUBGRAPHS: ("IF", "WHILE", "CALL", "CALL_ONCE", "REDUCE_WINDOW", "DILATE"),
    _STATE: (
        "LSTM", "RNN", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE",
    ),
    _STRINGS: (
        "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE", "HASHTABLE_LOOKUP", "LSH_PROJECTION",
        "SKIP_GRAM",
        "EMBEDDING_LOOKUP_SPARSE", "CONCAT_EMBEDDINGS",
    ),
    _COMPLEX: ("COMPLEX_ABS", "REAL", "IMAG", "RFFT2D"),
    "its numbers are random": ("MULTINOMIAL", "RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL"),
    "it is for rank 5": ("CONV_3D", "CONV_3D_TRANSPOSE"),
    "it unpacks sparse weights, which the graph builder does not write": ("DENSIFY",),
    "its custom code is the model's own": ("CUSTOM",),
    "its boundaries are floats in the options and its result are places alone": ("BUCKETIZE",),
    "it changes a type and no bit": ("BITCAST",),
    _MARK: ("DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"),
}  # fmt: skip


@cache
def every_form() -> tuple[Form, ...]:
    """All forms, each once, in a fixed order."""
    found: dict[str, Form] = {}
    for module in (elementwise, reductions, layout, joining, layers, integers, quantized, pairs, patterns):
        for form in module.forms():
            found.setdefault(form.id, form)
    return tuple(found.values())


def forms_of(ops: Sequence[str] = ()) -> tuple[Form, ...]:
    """The forms that are about these kinds of op, all of them without any. Raises UsageError for a kind that has
    none."""
    wanted = {op.strip().upper() for op in ops if op.strip()}
    for op in sorted(wanted):
        if op not in BUILTIN_OPS:
            raise UsageError(f"--ops: there is no op '{op}'.", "Write it as the schema does, as in ADD,BATCH_MATMUL.")
        if op in not_asked():
            raise UsageError(f"--ops: {op} is not asked: {not_asked()[op]}.", "Leave it out.")
    return tuple(form for form in every_form() if not wanted or wanted & set(form.ops))


@cache
def not_asked() -> dict[str, str]:
    """Each op of the schema that has no form, and why."""
    told = {op: why for why, ops in _WHY.items() for op in ops}
    told |= {op: _STABLEHLO for op in BUILTIN_OPS if op.startswith("STABLEHLO_")}
    return dict(sorted(told.items()))
