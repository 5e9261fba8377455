"""Units of systemd as their tests read them: what is started, with which environment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from docs.blocks import ROOT

UNITS = ROOT / "deploy" / "systemd"


@dataclass(frozen=True)
class Unit:
    """The section `Service` of a unit file. `instance` replaces `%i`, `state` stands for `%S`."""

    path: Path
    instance: str = ""
    state: str = "/var/lib"

    def values(self, key: str) -> list[str]:
        """Returns the values of a directive in their order, which may stand on several lines."""
        section, found = "", []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                section = line
            name, equals, value = line.partition("=")
            if section == "[Service]" and equals and name == key:
                found.append(value.replace("%i", self.instance).replace("%S", self.state))
        return found

    def value(self, key: str) -> str:
        (value,) = self.values(key)
        return value

    def environment(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Returns what the unit adds to the environment. `files` has the file that stands for each `EnvironmentFile`."""
        pairs = [pair.partition("=") for value in self.values("Environment") for pair in shlex.split(value)]
        return {name: value for name, _, value in pairs} | {
            name: value for path in self.values("EnvironmentFile") for name, value in read_file(files[path]).items()
        }


def read_file(path: Path) -> dict[str, str]:
    """Returns the variables of an `EnvironmentFile`: a line each, values perhaps in quotes."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {name: "".join(shlex.split(value)) for name, _, value in (line.partition("=") for line in lines)}
