"""Topic exchange routing: in a pattern `*` is one word and `#` any number of words, also none (AMQP 0-9-1, 3.1.3.3).

Patterns are kept as a trie, so matching a key takes as many steps as the key has words. Matches are remembered until a
binding changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

Target = TypeVar("Target")


class _Node(Generic[Target]):
    __slots__ = ("children", "targets")

    def __init__(self) -> None:
        self.children: dict[str, _Node[Target]] = {}
        self.targets: list[Target] = []


class TopicTable(Generic[Target]):
    """The bindings of one topic exchange."""

    def __init__(self) -> None:
        self._root: _Node[Target] = _Node()
        self._matches: dict[str, tuple[Target, ...]] = {}

    def bind(self, pattern: str, target: Target) -> None:
        """Binds a target; the same binding again changes nothing."""
        targets = self._node(pattern).targets
        if target not in targets:
            targets.append(target)
            self._matches.clear()

    def unbind(self, pattern: str, target: Target) -> None:
        """Removes a binding; an absent one changes nothing."""
        targets = self._node(pattern).targets
        if target in targets:
            targets.remove(target)
            self._matches.clear()

    def match(self, key: str) -> tuple[Target, ...]:
        """Returns the targets of a routing key, each once however many of its bindings match."""
        found = self._matches.get(key)
        if found is None:
            found = tuple(dict.fromkeys(_walk(self._root, key.split("."), 0)))
            self._matches[key] = found
        return found

    def _node(self, pattern: str) -> _Node[Target]:
        node = self._root
        for word in pattern.split("."):
            node = node.children.setdefault(word, _Node())
        return node


def _walk(node: _Node[Target], words: list[str], at: int) -> Iterator[Target]:
    rest = node.children.get("#")
    if rest is not None:
        for skip in range(at, len(words) + 1):
            yield from _walk(rest, words, skip)
    if at == len(words):
        yield from node.targets
        return
    for word in (words[at], "*"):
        child = node.children.get(word)
        if child is not None:
            yield from _walk(child, words, at + 1)
