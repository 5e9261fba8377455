"""Notes on one result: what failed without failing the job."""

from __future__ import annotations

from fedmq_schemas.limits import LONGEST_NOTE, MOST_NOTES


class NoteCollector:
    """Collects notes, each once. A trainer's own threads may add some."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def add(self, text: str) -> None:
        """Adds a sentence. Shortens it to LONGEST_NOTE characters."""
        line = " ".join(text.split())
        self._texts[line if len(line) <= LONGEST_NOTE else f"{line[: LONGEST_NOTE - 2]} …"] = None

    def take(self) -> tuple[str, ...]:
        """Returns the notes and forgets them. Of more than MOST_NOTES, the last one counts the rest."""
        texts, self._texts = tuple(self._texts), {}
        if len(texts) <= MOST_NOTES:
            return texts
        return (*texts[: MOST_NOTES - 1], f"and {len(texts) - MOST_NOTES + 1} notes more")
