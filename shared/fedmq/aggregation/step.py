"""From a rule's result to the next model, and a whole round recomputed from its ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fedmq import tensors
from fedmq.aggregation.optimizer import Model, Parameters, ServerOptimizer, State
from fedmq.aggregation.rules import open_rule
from fedmq.aggregation.verification import Floats
from fedmq.tensors import Spec, TensorRole
from fedmq.tensors.opaque import from_bytes
from fedmq.tensors.tensorblob import Meta, Source, Weights


def next_model(
    model: Model,
    spec: Spec,
    delta: Mapping[str, Floats],
    optimizer: ServerOptimizer,
    parameters: Parameters,
    state: State | None,
) -> tuple[Weights, State]:
    """Returns the model after a round, and the optimizer's state after it.

    `delta` is what `Rule.finish` returns; `state` that of the round before, or None in a session's first round. The
    optimizer acts on the trainable tensors. Statistics and counters change by their delta, constants stay. Opaque tensors
    become the bytes of the only update. Raises `InvalidUpdate` if the new model would not be finite.
    """
    trainable = {name: array for name, array in model.items() if spec[name].role is TensorRole.TRAINABLE}
    opaque = {name: array for name, array in model.items() if spec[name].role is TensorRole.OPAQUE}
    others = {name: array for name, array in model.items() if name not in trainable and name not in opaque}
    new, after = optimizer.apply(
        trainable,
        {name: delta[name] for name in trainable},
        optimizer.init(trainable) if state is None else state,
        parameters,
    )
    new |= tensors.apply(others, {name: delta[name] for name in others if name in delta})
    new |= {name: from_bytes(delta[name], array) for name, array in opaque.items()}
    return {name: new[name] for name in model}, after


def replay(
    model: Weights,
    meta: Meta,
    rule: str,
    exponents: Sequence[int],
    updates: Iterable[tuple[int, Source]],
    optimizer: ServerOptimizer,
    parameters: Parameters,
    state: State | None,
) -> tuple[Weights, State]:
    """Recomputes a round from its ledger and returns what `next_model` returned, equal to the last bit.

    The arguments are the model and its metadata, the rule and exponents of the ledger, and the weight and update of each
    accepted entry, in the ledger's order. One update is read at a time, unless the rule needs all of them.
    """
    spec = tensors.spec_of(model, meta)
    folded, total = (open_rule(rule, spec, exponents) for _ in range(2))
    for weight, update in updates:
        folded.fold(update, weight)
    total.fold_partial(Source(folded.dump()))
    return next_model(model, spec, total.finish(), optimizer, parameters, state)
