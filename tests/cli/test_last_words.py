"""A role's log is JSON to its last line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FEDMQ = [sys.executable, "-m", "fedmq_cli.app"]


def test_the_reason_why_a_role_ends_is_a_line_of_its_json_log(tmp_path: Path) -> None:
    settings = {"FEDN_AMQP_URL": "amqps://localhost:5671/", "FEDN_CA_FILE": str(tmp_path / "none.pem")}
    done = subprocess.run(
        [*FEDMQ, "run", "combiner"], env=os.environ | settings, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 2
    assert (lines[-1]["level"], lines[-1]["role"]) == ("critical", "combiner")
    assert lines[-1]["message"].startswith(f"FEDN_CA_FILE={tmp_path}/none.pem can't be read")


def test_a_wrong_setting_is_reported_as_text_as_no_log_has_begun(tmp_path: Path) -> None:
    done = subprocess.run(
        [*FEDMQ, "run", "combiner"],
        env=os.environ | {"FEDN_PRESENCE": "never"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fedmq: FEDN_PRESENCE=never must be a number")
