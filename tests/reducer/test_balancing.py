"""Clients are moved so that combiners have equally many: few moves, the same for the same arguments."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Collection, Mapping

import pytest

from fedmq_reducer.members.balancing import balanced

SEEDS = [range(first, first + 50) for first in range(0, 300, 50)]


def drawn(seed: int) -> tuple[dict[str, str], list[str]]:
    """Returns some clients with their combiners, of which some may be gone, and the combiners that are present."""
    source = random.Random(seed)
    combiners = [f"k{number}" for number in range(source.randint(1, 5))]
    known = [*combiners, "gone"]
    weights = [source.random() ** 3 for _ in known]
    clients = {f"c{number}": source.choices(known, weights)[0] for number in range(source.randint(0, 30))}
    return clients, combiners


def loads(assigned: Mapping[str, str], combiners: Collection[str]) -> list[int]:
    count = Counter(assigned.values())
    return [count[combiner] for combiner in combiners]


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_no_combiner_has_two_clients_more_than_another(seeds: range) -> None:
    for seed in seeds:
        assigned, combiners = drawn(seed)
        after = {**assigned, **balanced(assigned, combiners)}
        assert set(after.values()) <= set(combiners), seed
        assert max(loads(after, combiners)) - min(loads(after, combiners)) <= 1, seed


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_as_few_clients_are_moved_as_any_way_to_balance_must_move(seeds: range) -> None:
    for seed in seeds:
        assigned, combiners = drawn(seed)
        each, more = divmod(len(assigned), len(combiners))
        before = loads(assigned, combiners)
        fewest = min(
            len(assigned) - sum(map(min, before, [each + (number in odd) for number in range(len(combiners))]))
            for odd in itertools.combinations(range(len(combiners)), more)
        )
        moved = balanced(assigned, combiners)
        assert len(moved) == fewest, seed
        assert all(assigned[client] != combiner for client, combiner in moved.items()), seed


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_the_order_of_the_arguments_changes_nothing_and_a_second_time_moves_nobody(seeds: range) -> None:
    for seed in seeds:
        assigned, combiners = drawn(seed)
        moved = balanced(assigned, combiners)
        shuffled = list(assigned)
        random.Random(seed).shuffle(shuffled)
        assert balanced({client: assigned[client] for client in shuffled}, combiners[::-1]) == moved, seed
        assert balanced({**assigned, **moved}, combiners) == {}, seed


def test_a_second_combiner_takes_half_of_the_clients() -> None:
    assigned = dict.fromkeys(("c1", "c2", "c3", "c4"), "k1")
    assert balanced(assigned, ["k1", "k2"]) == {"c3": "k2", "c4": "k2"}


def test_without_a_combiner_nobody_is_moved() -> None:
    assert balanced({"c1": "gone"}, []) == {}
