"""Tries parts of a graph on numbers, to see what they compute, however they are written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .graph import CONSTANT, Operation, Value

# The most operations of a part that is tried: a normalisation, or a softmax that is written out, has about ten.
_MOST_STEPS = 40

#: What may go wrong where an operation is run on numbers that it is not meant for.
NOT_COMPUTED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def steps_between(root: Value, value: Value) -> list[Operation]:
    """Returns the operations from one value to another in their order; none if anything else goes in, or many."""
    steps: list[Operation] = []
    seen: set[int] = {id(root)}

    def is_of_root(current: Value) -> bool:
        operation = current.producer
        if id(current) in seen or current.origin == CONSTANT:
            return True
        if operation is None or operation.run is None or len(seen) > _MOST_STEPS:
            return False
        seen.add(id(current))
        if not all(is_of_root(source) for source in operation.inputs):
            return False
        if operation not in steps:
            steps.append(operation)
        return True

    return steps if value is not root and is_of_root(value) else []


def computed(root: Value, numbers: np.ndarray, steps: Sequence[Operation], value: Value) -> np.ndarray | None:
    """Returns what a value is for numbers in place of ``root``, in double precision.

    Args:
        root: What the value is computed from, with constants.
        numbers: An array of its shape.
        steps: What :func:`steps_between` returns for the two.
        value: The value.

    Returns:
        An array; None if an operation does not take such numbers.
    """
    known: dict[int, np.ndarray] = {id(root): numbers}
    for step in steps:
        inputs = [known[id(source)] if id(source) in known else numbers_of(source) for source in step.inputs]
        # A cast goes between the precisions of a model.
        results = inputs[:1] if step.function == "cast" else run_on(step, inputs)
        if results is None:
            return None
        known.update({id(output): np.asarray(result) for output, result in zip(step.outputs, results, strict=False)})
    return known.get(id(value))


def run_on(operation: Operation, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """Runs an operation on arrays; returns None if it does not take them."""
    if operation.run is None:
        return None
    try:
        with np.errstate(all="ignore"):
            return operation.run(arrays)
    except NOT_COMPUTED:
        return None


def numbers_of(constant: Value) -> np.ndarray:
    """Returns the numbers of a constant, in double precision unless they are whole."""
    array = np.asarray(np.nan if constant.content is None else constant.content())
    return array.astype(np.float64) if "float" in constant.dtype else array
