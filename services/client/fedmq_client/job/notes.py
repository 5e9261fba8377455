"""Notes on one result: what failed without failing the job."""

from __future__ import annotations

from typing import NamedTuple

from fedmq_schemas.limits import LONGEST_NOTE, MOST_NOTES, safe


class NoteCollector:
    """Collects notes, each once. A trainer's own threads may add some."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def add(self, text: str, plain: str | None = None) -> None:
        """Adds a sentence. Shortens it to LONGEST_NOTE characters. `plain`: the sentence without values, if it has some."""
        self._texts[_short(text)] = _short(text if plain is None else plain)

    def take(self) -> TakenNotes:
        """Returns the notes and forgets them. Of more than MOST_NOTES, the last one counts the rest."""
        texts, self._texts = self._texts, {}
        return TakenNotes(_few(tuple(texts)), _few(tuple(dict.fromkeys(texts.values()))))


class TakenNotes(NamedTuple):
    """The notes of one result. `plain`: without values, for a site whose texts stay there."""

    texts: tuple[str, ...]
    plain: tuple[str, ...]


def _short(text: str) -> str:
    line = safe(" ".join(text.split()))
    return line if len(line) <= LONGEST_NOTE else f"{line[: LONGEST_NOTE - 2]} …"


def _few(texts: tuple[str, ...]) -> tuple[str, ...]:
    if len(texts) <= MOST_NOTES:
        return texts
    return (*texts[: MOST_NOTES - 1], f"and {len(texts) - MOST_NOTES + 1} notes more")
