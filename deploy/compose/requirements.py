"""Prints what the project's base install and the extras that are named need, one requirement a line.

An image installs these before the code is copied, so that a change of code reinstalls nothing.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """In the order of `pyproject`. Raises KeyError for an extra that it does not have."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]


if __name__ == "__main__":
    print("\n".join(requirements(Path("pyproject.toml"), sys.argv[1:])))
