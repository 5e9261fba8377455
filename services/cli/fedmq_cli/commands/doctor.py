"""`fedmq doctor`: checks everything that a role needs, and names the remedy for each fault."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fedmq_cli.output import AsJson, print_json, print_next, say

MARKS = {"ok": "ok     ", "warning": "warning", "fault": "FAULT  "}


EXIT_CODES = "Exit codes: 0 done, with warnings at most; 2 a fault, or a wrong option or setting; 130 interrupted."


def doctor(
    role: Annotated[str, typer.Argument(help="reducer, combiner, client, dashboard or control.")] = "reducer",
    as_json: AsJson = False,
) -> None:
    """Check broker, stores, clock, permissions, ports and versions from where a role would run.

    Reads the same settings as `fedmq run ROLE`; those of `control` are what the verbs need to reach the reducer's API.
    """
    from fedmq_cli.doctor.examination import examine, settings_of

    findings = []
    for finding in examine(settings_of(role)):
        findings.append(finding)
        if not as_json:
            say(f"{MARKS[finding.verdict]}  {finding.what:<13} {finding.text}")
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.verdict == "fault" for finding in findings):
        raise typer.Exit(2)
    if not as_json:
        print_next("fedmq status" if role == "control" else f"fedmq run {role}")
