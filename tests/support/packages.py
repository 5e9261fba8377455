"""Packages that a test writes."""

from __future__ import annotations

from pathlib import Path


def write_package(folder: Path, trainer: str) -> Path:
    """Writes a package whose `trainer.py` holds this text and the class `Trainer`. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fedn.yaml").write_text("trainer: trainer.py:Trainer\n")
    (folder / "trainer.py").write_text(trainer)
    return folder
