"""Every role starts where Python has no fcntl and no resource, and the system no /proc, as on Windows and macOS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.servers.ports import free_ports

ELSEWHERE = """
import builtins, io, sys
from importlib.abc import MetaPathFinder

class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def open_elsewhere(file, *args, opened=open, **options):
    if str(file).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", str(file))
    return opened(file, *args, **options)

sys.meta_path.insert(0, Hidden())
for name in ("fcntl", "resource"):
    sys.modules.pop(name, None)
builtins.open = io.open = open_elsewhere
"""

ROLES = (
    "fedmq_reducer.app",
    "fedmq_combiner.app",
    "fedmq_client.app",
    "fedmq_dashboard.process",
    "fedmq_sandbox.sandbox",
    "fedmq_cli.app",
)

SERVICE = """
import importlib, signal, sys, threading, types, urllib.request
from pathlib import Path
from fedmq.process.identity import claim
from fedmq.process.service import Service
from fedmq.process.settings import AllianceSettings

folder, port, *roles = sys.argv[1:]
for role in roles:
    importlib.import_module(role)
# Not before: Python's own modules take its presence for Windows.
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=lambda descriptor, mode, count: None)

class Member:
    def start(self):
        threading.Thread(target=self.look).start()
    def look(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            print(answer.read().decode())
        signal.raise_signal(signal.SIGTERM)
    def drain(self, then):
        print("drained")
        then()
    def leave(self, timeout):
        print("left")

identity = claim(Path(folder), "role", None, "role")
service = Service("role", identity.name, AllianceSettings.load(health_port=int(port), log_level="error"))
service.run([Member()])
"""


def test_roles_are_imported_and_a_service_serves_its_metrics_and_drains(tmp_path: Path) -> None:
    [port] = free_ports(1)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE + SERVICE, str(tmp_path), str(port), *ROLES],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "process_cpu_seconds_total" in done.stdout
    assert "process_resident_memory_bytes" not in done.stdout
    assert done.stdout.split()[-2:] == ["drained", "left"]
