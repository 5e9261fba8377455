"""From a sum to the next model, and a whole round recomputed from its ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from fedmq import tensors
from fedmq.aggregation.accumulator import Accumulator
from fedmq.aggregation.fixedpoint import Floats
from fedmq.aggregation.optimizer import Model, Parameters, ServerOptimizer, State
from fedmq.tensors import Spec, TensorRole
from fedmq.tensors.tensorblob import Meta, Source, Weights


def next_model(
    model: Model,
    spec: Spec,
    mean: Mapping[str, Floats],
    optimizer: ServerOptimizer,
    parameters: Parameters,
    state: State | None,
) -> tuple[Weights, State]:
    """The model after a round, and the optimizer's state after it.

    `mean` is `Accumulator.mean()`; `state` that of the round before, or None in a session's first
    round. The optimizer acts on the trainable tensors; statistics and counters take their mean,
    constants stay. Raises `InvalidUpdate` if the new model would not be finite.
    """
    trainable = {name: array for name, array in model.items() if _is_trainable(spec, name)}
    others = {name: array for name, array in model.items() if name not in trainable}
    new, after = optimizer.apply(
        trainable,
        {name: mean[name] for name in trainable},
        optimizer.init(trainable) if state is None else state,
        parameters,
    )
    new |= tensors.apply(others, {name: mean[name] for name in others if name in mean})
    return {name: new[name] for name in model}, after


class LedgerEntry(Protocol):
    """What a replay needs of a ledger's accepted entry."""

    @property
    def weight(self) -> int: ...


def replay(
    model: Weights,
    meta: Meta,
    exponents: Mapping[str, int],
    updates: Iterable[tuple[LedgerEntry, Source]],
    optimizer: ServerOptimizer,
    parameters: Parameters,
    state: State | None,
) -> tuple[Weights, State]:
    """Recompute a round: what `next_model` gave, from the model and its metadata, the exponents and
    accepted entries of the ledger, each with its update, in any order.

    The arrays are equal to the last bit to those that were committed. Reads nothing but the
    sources; one update is looked at at a time. Raises `InvalidUpdate` as `Accumulator.verify` does.
    """
    spec = tensors.spec_of(model, meta)
    accumulator = Accumulator(spec, exponents)
    for entry, update in updates:
        accumulator.add(update, entry.weight)
    return next_model(model, spec, accumulator.mean(), optimizer, parameters, state)


def _is_trainable(spec: Spec, name: str) -> bool:
    return spec[name].role is TensorRole.TRAINABLE
