"""The units for hosts without containers: valid by systemd's own tool, hardened, and with settings that exist."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedmq.process.settings import variables
from support.systemd import UNITS, Unit, read_file
from support.tiers import require

FILES = sorted(UNITS.glob("*.service"))
ROLES = {"reducer", "combiner", "client", "dashboard"}
MOST_EXPOSED = 25
"""The scale of `systemd-analyze security` ends at 100; a unit without hardening has 96, those of Debian mostly 80 to 96."""


def role_of(path: Path) -> str:
    return path.stem.removeprefix("fedmq-").removesuffix("@")


def analyze(folder: Path, *words: str) -> str:
    """Runs `systemd-analyze` on copies of all units, which start the `fedmq` that is installed here."""
    require(None if shutil.which("systemd-analyze") else "systemd-analyze is not installed: apt-get install systemd")
    for path in FILES:
        text = path.read_text(encoding="utf-8").replace("/opt/fedmq/bin", str(Path(sys.executable).parent))
        (folder / path.name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", *words, *(f"./{path.name}" for path in FILES)],
        cwd=folder,
        env=os.environ | {"SYSTEMD_PAGER": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    assert analyze(tmp_path, "verify", "--man=no") == ""


def test_systemd_rates_the_units_as_hardened(tmp_path: Path) -> None:
    analyze(tmp_path, "security", "--offline=true", f"--threshold={MOST_EXPOSED}")


def test_each_role_has_a_unit_that_runs_it_with_its_own_file_and_folder() -> None:
    assert {role_of(path) for path in FILES} == ROLES
    for path in FILES:
        unit, role = Unit(path, "i"), role_of(path)
        own = f"{role}-i" if "@" in path.name else role
        assert unit.value("ExecStart") == f"/opt/fedmq/bin/fedmq run {role}"
        assert unit.value("EnvironmentFile") == f"/etc/fedmq/{own}.env"
        assert unit.value("StateDirectory") == f"fedmq/{own}"
        assert unit.value("WorkingDirectory") == f"/var/lib/fedmq/{own}"
        assert (unit.value("User"), unit.value("Restart"), unit.value("KillMode")) == ("fedmq", "always", "mixed")


@pytest.mark.parametrize("role", sorted(ROLES))
def test_an_example_has_settings_that_its_role_reads_and_no_port_twice(role: str) -> None:
    known = {variable.name for variable in variables() if role in variable.roles}
    assert read_file(UNITS / f"{role}.env").keys() <= known
    ports = [value for each in ROLES for name, value in read_file(UNITS / f"{each}.env").items() if "HEALTH" in name]
    assert len(ports) == len({*ports}) == len(ROLES)


def test_a_site_is_given_no_account_of_a_store() -> None:
    assert not [name for name in read_file(UNITS / "client.env") if name.startswith(("FEDN_MINIO_", "FEDN_MONGO_"))]
