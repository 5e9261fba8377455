"""What holds for each aggregation rule, and for the median of the how-to page as well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fedmq.aggregation import (
    RULES,
    Accumulator,
    Rule,
    in_plan_order,
    initial_exponents,
    open_rule,
    replay,
    server_optimizer,
)
from fedmq.errors import ConfigError, InvalidUpdate, ProtocolError
from fedmq.tensors import spec_of
from fedmq.tensors.tensorblob import Source, Weights, decode, encode
from support.rules import documented_median

MODEL: Weights = {"n": np.array([3], np.int64), "on": np.array([True]), "w": np.arange(4, dtype=np.float32)}
SPEC = spec_of(MODEL)
EXPONENTS = initial_exponents(SPEC, [10])
MEDIAN = documented_median()
EVERY = (*RULES.values(), MEDIAN)

Update = tuple[Source, int]


def update(*values: float, n: int = 0, weight: int = 1) -> Update:
    delta: Weights = {"n": np.array([n]), "on": np.array([0]), "w": np.array(values, np.float32)}
    return Source(encode(delta)), weight


UPDATES = (update(1, 0, 0, -1, n=2, weight=7), update(2, 5, 0, 0, n=9), update(40, 6, 0, 3, n=4, weight=3))


def folded(rule: type[Rule], updates: Sequence[Update] = UPDATES) -> Rule:
    made = rule(SPEC, EXPONENTS)
    for each in updates:
        made.fold(*each)
    return made


@pytest.mark.parametrize("rule", EVERY)
def test_the_order_of_updates_makes_no_difference(rule: type[Rule]) -> None:
    assert folded(rule).dump() == folded(rule, UPDATES[::-1]).dump()


@pytest.mark.parametrize("rule", EVERY)
def test_a_partial_counts_its_updates_and_finishes_to_a_delta_of_each_tensor_but_constants(rule: type[Rule]) -> None:
    total = rule(SPEC, EXPONENTS)
    total.fold_partial(Source(folded(rule).dump()))
    assert (total.count, total.total_weight) == (3, 11)
    delta = total.finish()
    assert {name: (str(values.dtype), *values.shape) for name, values in delta.items()} == {
        "n": ("float64", 1),
        "w": ("float64", 4),
    }
    assert delta["n"] == np.rint(delta["n"])
    assert total.next_exponents().keys() == EXPONENTS.keys()


@pytest.mark.parametrize("rule", EVERY)
def test_an_update_that_is_refused_is_not_counted(rule: type[Rule]) -> None:
    made = folded(rule)
    before = made.dump()
    with pytest.raises(InvalidUpdate, match="'w' holds NaN"):
        made.fold(*update(np.nan, 0, 0, 0))
    with pytest.raises(InvalidUpdate, match="its norm is 10, and the policy allows 9"):
        made.fold(*update(6, 8, 0, 0), max_norm=9.0)
    assert (made.count, made.dump()) == (3, before)


@pytest.mark.parametrize("rule", [rule for rule in EVERY if rule.composes])
def test_a_rule_that_composes_gives_the_same_bytes_in_any_grouping(rule: type[Rule]) -> None:
    total = folded(rule, UPDATES[2:])
    total.fold_partial(Source(folded(rule, UPDATES[:2]).dump()))
    assert total.dump() == folded(rule).dump()


def test_a_rule_that_does_not_compose_refuses_a_second_partial() -> None:
    total, partial = MEDIAN(SPEC, EXPONENTS), Source(folded(MEDIAN).dump())
    total.fold_partial(partial)
    with pytest.raises(InvalidUpdate, match="'median' does not compose: it can't merge two partials"):
        total.fold_partial(partial)


@pytest.mark.parametrize(("mine", "other"), [(MEDIAN, Accumulator), (Accumulator, MEDIAN)])
def test_a_partial_of_another_rule_is_refused(mine: type[Rule], other: type[Rule]) -> None:
    expected = f"made by the rule {other.name!r}, and the plan's rule is {mine.name!r}"
    with pytest.raises(InvalidUpdate, match=expected):
        mine(SPEC, EXPONENTS).fold_partial(Source(folded(other).dump()))


@pytest.mark.parametrize(
    "header", [{}, {"partial": 1}, {"partial": {"count": 1}}, {"partial": {"count": 2, "weight": 1}}]
)
def test_a_blob_that_does_not_count_its_updates_is_no_partial(header: dict[str, object]) -> None:
    with pytest.raises(InvalidUpdate, match=r"not a partial|garbled"):
        MEDIAN(SPEC, EXPONENTS).fold_partial(Source(encode({}, {"rule": "median", **header})))


def test_the_median_is_that_of_numpy() -> None:
    medians = decode(folded(MEDIAN).dump())[0]
    assert (medians["w"].tolist(), medians["n"].tolist()) == ([2.0, 5.0, 0.0, 0.0], [4.0])


@pytest.mark.parametrize("rule", EVERY)
def test_a_round_is_replayed_by_its_rule(rule: type[Rule], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, rule.name, rule)
    optimizer = server_optimizer("fedavg")
    total = rule(SPEC, EXPONENTS)
    total.fold_partial(Source(folded(rule).dump()))
    weighted = [(weight, source) for source, weight in UPDATES]
    listed = in_plan_order(EXPONENTS)
    new, _ = replay(MODEL, {}, rule.name, listed, weighted, optimizer, optimizer.configure({}), None)
    assert new["w"].tolist() == (MODEL["w"] + total.finish()["w"]).astype(np.float32).tolist()


def test_an_unknown_rule_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="there is no rule 'maen'; did you mean 'mean'"):
        open_rule("maen", SPEC, in_plan_order(EXPONENTS))


def test_a_plan_for_another_model_is_refused() -> None:
    with pytest.raises(ProtocolError, match="the plan has 3 exponents, and its model has 1 tensors"):
        open_rule("mean", spec_of({"w": np.zeros(2, np.float32)}), (1, 2, 3))
