"""Decides which clients change their combiner, so that each combiner has as many as the others. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def balanced(assigned: Mapping[str, str], combiners: Collection[str]) -> dict[str, str]:
    """Returns the new combiner of each client that is to be moved.

    Moves as few clients as possible, so that the numbers of clients of any two combiners differ by at most one. Moves all
    clients of combiners that are not among `combiners`. The same arguments give the same moves, whatever their order.

    Args:
        assigned: The present combiner of each client.
        combiners: The combiners that may have clients.
    """
    if not combiners:
        return {}
    clients_of: dict[str, list[str]] = {combiner: [] for combiner in combiners}
    moved: list[str] = []
    for client in sorted(assigned):
        clients_of.get(assigned[client], moved).append(client)
    each, more = divmod(len(assigned), len(clients_of))
    by_load = sorted(clients_of, key=lambda combiner: (-len(clients_of[combiner]), combiner))
    # The combiners with the most clients get the odd ones: this leaves the fewest to move.
    quota = {combiner: each + (number < more) for number, combiner in enumerate(by_load)}
    for combiner, clients in clients_of.items():
        moved += clients[quota[combiner] :]
    free = [combiner for combiner in sorted(quota) for _ in range(quota[combiner] - len(clients_of[combiner]))]
    return dict(zip(sorted(moved), free, strict=True))
