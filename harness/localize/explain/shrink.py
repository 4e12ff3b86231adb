"""Making a failing specimen smaller while it fails in the same way: ops, then dimensions, then inputs.

Order: outputs and ops are left out one at a time until none can be; inputs become constant, or random from a seed, so
that no file is needed for them, where it fails with such inputs too; each size that occurs is made 1, or halved as
often as that works, the largest first, everywhere at once (4096 keys are 4096 in each tensor that has them); then ops
and inputs once more. Every step is asked of the device, and taken back unless the specimen still fails alike. Ends
because each step taken makes something smaller, and at the latest after `limit` questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from harness.core.arrays import Array, TensorIndex
from harness.core.errors import HarnessError
from harness.graph.model import AlignedBuffer, Model, indices
from harness.graph.shapes import result_shape
from harness.localize.probe.experiment import Experiments, Specimen
from harness.localize.probe.subgraph import fewer_ops, fewer_outputs
from harness.numerics.metrics import rms

MOST_QUESTIONS = 60


@dataclass(frozen=True)
class Recipe:
    """How to make an input of any shape without a file."""

    kind: Literal["constant", "uniform", "normal", "zeros"]
    dtype: str
    scale: float
    seed: int

    def values(self, shape: Sequence[int]) -> Array:
        """The values."""
        rng, scale = np.random.default_rng(self.seed), np.float32(self.scale)
        match self.kind:
            case "zeros":
                return np.zeros(shape, self.dtype)
            case "constant":
                return np.full(shape, self.scale, np.float32)
            case "uniform":
                return np.asarray(rng.random(tuple(shape), np.float32) * scale)
            case "normal":
                return np.asarray(rng.standard_normal(tuple(shape), np.float32) * scale)

    def code(self, shape: Sequence[int]) -> str:
        """A numpy expression that makes them."""
        dims, rng = list(shape), f"np.random.default_rng({self.seed})"
        match self.kind:
            case "zeros":
                return f"np.zeros({dims}, np.dtype('{self.dtype}'))"
            case "constant":
                return f"np.full({dims}, {self.scale!r}, np.float32)"
            case "uniform":
                return f"{rng}.random({dims}, np.float32) * np.float32({self.scale!r})"
            case "normal":
                return f"{rng}.standard_normal({dims}, np.float32) * np.float32({self.scale!r})"


@dataclass(frozen=True)
class Shrunk:
    """The smallest specimen found, recipes for those inputs that need no file, and how many questions it took."""

    specimen: Specimen
    recipes: dict[str, Recipe] = field(default_factory=dict)
    questions: int = 0


def shrink(
    experiments: Experiments,
    specimen: Specimen,
    fails: Callable[[Specimen], bool],
    *,
    limit: int = MOST_QUESTIONS,
) -> Shrunk:
    """Shrink a specimen that fails. `fails` asks the device whether another one fails in the same way."""
    shrinker = Shrinker(experiments, specimen, fails, limit)
    for each in PASSES:
        each(shrinker)
    return Shrunk(shrinker.best, shrinker.recipes, shrinker.questions)


@dataclass
class Shrinker:
    """The smallest specimen so far, for a pass to make smaller by way of `consider`; `recipes` are of those inputs that
    need no file."""

    experiments: Experiments
    best: Specimen
    fails: Callable[[Specimen], bool]
    limit: int
    questions: int = 0
    recipes: dict[str, Recipe] = field(default_factory=dict)

    def consider(self, smaller: Specimen | None) -> bool:
        """Take a smaller specimen if it fails alike."""
        if smaller is None or self.questions >= self.limit:
            return False
        self.questions += 1
        if not self.fails(smaller):
            return False
        self.best = smaller
        return True


def drop(shrinker: Shrinker) -> None:
    """Leave out outputs and ops, from the last on, until none can be left out."""
    while any(shrinker.consider(smaller) for smaller in _without_one(shrinker)):
        shrinker.recipes.clear()  # inputs have other names now


def narrow(shrinker: Shrinker) -> None:
    """Halve sizes, the largest first."""
    done: set[int] = set()
    while sizes := sorted({d for shape in _shapes(shrinker.best.model) for d in shape if d > 1} - done, reverse=True):
        size = sizes[0]
        done.add(size)
        if shrinker.consider(_resized(shrinker, size, 1)):
            continue
        # The largest number of halvings that leaves it failing, by bisection.
        least, most = 0, size.bit_length() - 1
        whole = shrinker.best
        while most - least > 1:
            middle = (least + most) // 2
            if shrinker.consider(_resized(shrinker, size, size >> middle, whole)):
                least = middle
            else:
                most = middle
        done.add(size >> least)


def without_files(shrinker: Shrinker) -> None:
    """Constant or seeded inputs, all at once or, where that does not fail, one by one."""
    names = [name for name in shrinker.best.inputs if name not in shrinker.recipes]
    for random in (False, True):
        recipes = {name: _recipe(random, int(name[1:]), shrinker.best.inputs[name]) for name in names}
        if names and shrinker.consider(_fed(shrinker, recipes)):
            shrinker.recipes |= recipes
            return
    for name in names if len(names) > 1 else ():
        for random in (False, True):
            recipe = _recipe(random, int(name[1:]), shrinker.best.inputs[name])
            if shrinker.consider(_fed(shrinker, {name: recipe})):
                shrinker.recipes[name] = recipe
                break


PASSES: tuple[Callable[[Shrinker], None], ...] = (drop, without_files, narrow, drop, without_files)
"""The passes in order: a pass is a function that offers the shrinker smaller specimens with `consider`. To add one:
the function, and its place here."""


def _without_one(shrinker: Shrinker) -> Iterator[Specimen | None]:
    graph = shrinker.best.model.graph()
    if len(graph.outputs) > 1:
        yield from (fewer_outputs(shrinker.best, port.name) for port in graph.outputs)
    ops = [op.index for op in graph.ops if op.index not in graph.constant_ops]
    if len(ops) > 1:
        yield from (fewer_ops(shrinker.experiments, shrinker.best, op) for op in reversed(ops))


def _resized(shrinker: Shrinker, size: int, new: int, whole: Specimen | None = None) -> Specimen | None:
    return resized(shrinker.experiments, whole or shrinker.best, size, new, shrinker.recipes)


def _fed(shrinker: Shrinker, recipes: dict[str, Recipe]) -> Specimen:
    made = {name: recipe.values(shrinker.best.inputs[name].shape) for name, recipe in recipes.items()}
    return replace(shrinker.best, inputs=shrinker.best.inputs | made)


def resized(
    experiments: Experiments, whole: Specimen, size: int, new: int, recipes: Mapping[str, Recipe] | None = None
) -> Specimen | None:
    """A specimen with one size made another, wherever it occurs; None where its ops do not go together so. Inputs are
    made anew by their recipe, else cropped or repeated."""
    known = recipes or {}
    try:
        model = _with_size(whole.model, size, new)
        shapes = {port.name: model.graph().tensors[port.tensor].shape or () for port in model.graph().inputs}
        inputs = {
            name: known[name].values(shapes[name]) if name in known else _in_shape(values, shapes[name])
            for name, values in whole.inputs.items()
        }
        return _settled(experiments, Specimen(model, inputs))
    except (HarnessError, ValueError, AttributeError, IndexError):
        return None  # the ops do not go together in that size


def _settled(experiments: Experiments, specimen: Specimen) -> Specimen | None:
    """The specimen if the host's kernels agree to every shape in it."""
    graph = specimen.model.graph()
    values = experiments.values(specimen, [t for op in graph.ops for t in op.outputs])
    return specimen if all(v.shape == graph.tensors[t].shape and v.size for t, v in values.items()) else None


def _recipe(random: bool, seed: int, values: Array) -> Recipe:
    """Values of the same size and sign; zeros for integers. A constant is no power of two: sums of those are exact."""
    if values.dtype != np.float32:
        return Recipe("zeros", values.dtype.name, 0.0, seed)
    finite = values[np.isfinite(values)]
    size = rms(finite)
    scale = float(f"{size:.2g}") if size else 1.0
    if not random:
        return Recipe("constant", "float32", scale, seed)
    return Recipe("uniform" if finite.size and finite.min() >= 0 else "normal", "float32", scale, seed)


def _shapes(model: Model) -> list[tuple[int, ...]]:
    graph = model.graph()
    used = {t for op in graph.ops for t in (*op.inputs, *op.outputs) if t >= 0}
    floats = [graph.tensors[t] for t in used if graph.tensors[t].type.startswith("FLOAT")]
    return [tensor.shape for tensor in floats if tensor.shape]


def _with_size(model: Model, size: int, new: int) -> Model:
    """The model with every dimension of one size made another: in inputs, in constants (cropped or repeated), in the
    integer constants and options that say shapes; results follow. Raises ValueError where ops do not go together so."""
    root = copy(model.root)
    root.buffers = list(root.buffers)
    root.subgraphs = list(root.subgraphs)
    root.subgraphs[0] = sub = copy(root.subgraphs[0])
    graph = model.graph()
    sub.tensors = [copy(table) for table in sub.tensors]
    constants: dict[TensorIndex, Array] = {}
    shapes: dict[TensorIndex, tuple[int, ...]] = {}
    for tensor, table in zip(graph.tensors, sub.tensors, strict=True):
        table.shapeSignature = None
        values = model.constant(tensor.index)
        if tensor.type.startswith("INT") and values is not None:
            shapes[tensor.index] = values.shape
            values = np.where(values == size, new, values).astype(values.dtype)
        else:
            shapes[tensor.index] = tuple(new if d == size else d for d in tensor.shape or ())
            values = _in_shape(values, shapes[tensor.index]) if values is not None else None
        if values is not None:
            constants[tensor.index] = values
            root.buffers.append(AlignedBuffer(np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)))
            table.buffer = len(root.buffers) - 1
    sub.operators = [_reshaped(op, size, new) for op in sub.operators]
    for op, written in zip(graph.ops, sub.operators, strict=True):
        feeds = [t for t in op.inputs if t >= 0]
        made = result_shape(
            op.name, [shapes[t] for t in feeds], [constants.get(t) for t in feeds], written.builtinOptions
        )
        if made is not None and len(op.outputs) == 1:
            shapes[op.outputs[0]] = made
    for t, shape in shapes.items():
        sub.tensors[t].shape = np.asarray(shape, np.int32)
    return Model.from_bytes(Model(root).to_bytes())


def _reshaped(op: Any, size: int, new: int) -> Any:
    op = copy(op)
    options: Any = copy(getattr(op, "builtinOptions", None))
    shape = getattr(options, "newShape", None)
    if shape is not None:
        options.newShape = np.asarray([new if d == size else d for d in indices(shape)], np.int32)
        op.builtinOptions = options
    return op


def _in_shape(values: Array, shape: tuple[int, ...]) -> Array:
    if all(new <= old for new, old in zip(shape, values.shape, strict=True)):
        return np.ascontiguousarray(values[tuple(slice(0, d) for d in shape)])
    return np.resize(values, shape)
