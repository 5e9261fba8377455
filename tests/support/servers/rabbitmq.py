"""A private RabbitMQ of the system's own package, for tests and for `make chaos`.

It has its own node name, ports, cookie, name daemon and data, so several run side by side and none touches a broker
that the machine has already. It runs as the current user; what it leaves is in its folder. `rabbitmq_4` has one of
another version.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from base64 import b64encode
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from support.servers.certificates import Pair
from support.servers.halting import halted
from support.servers.ports import free_ports, listens
from support.waiting import until

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
DEPLOYED = Path(__file__).parents[3] / "deploy" / "compose" / "rabbitmq.conf"
OPEN_FILES = 65_536


def missing() -> str | None:
    """Why RabbitMQ can't be started on this machine, or None if it can."""
    return None if SERVER.exists() else f"RabbitMQ is not installed ({SERVER}): apt-get install rabbitmq-server"


class RabbitmqServer:
    """`start` and `stop` may be called again and again; queues and messages stay. `kill` is a power cut.

    `remove` ends it for good. Account `guest`, password `guest`, vhost `/`. With `tls` it speaks AMQP over TLS only.
    With `has_exporter` it has the plugins of the deployed one, and serves its metrics on `metrics_port`.
    """

    _more_settings = ""

    def __init__(self, folder: Path, tls: Pair | None = None, *, has_exporter: bool = False) -> None:
        self.folder = folder
        """Where its data, settings and logs are."""
        self.port, self.management_port, self.metrics_port, self._dist_port, self._names_port = free_ports(5)
        self._has_exporter = has_exporter
        self.tls = tls
        self.url = f"{'amqps' if tls else 'amqp'}://guest:guest@127.0.0.1:{self.port}/"
        self.management_url = f"http://127.0.0.1:{self.management_port}"
        self._server: subprocess.Popen[bytes] | None = None
        self._names: subprocess.Popen[bytes] | None = None

    def start(self) -> RabbitmqServer:
        """Returns when it takes connections, some seconds later. Running already: nothing happens."""
        if self._server is not None:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        self._configure()
        if self._names is None:
            self._names = subprocess.Popen(
                self._command("/bin/sh", "-c", f"epmd -port {self._names_port} -address 127.0.0.1 & read end; kill $!"),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._await(self._names_port, self._names)
        # A hard limit below what is wanted is lifted by root only, and a smaller one will do for tests.
        limits = f"ulimit -n {OPEN_FILES} 2>/dev/null || ulimit -n $(ulimit -Hn); exec {SERVER}"
        with (self.folder / "output.log").open("ab") as output:
            self._server = subprocess.Popen(
                self._command("/bin/sh", "-c", limits),
                env=self._environment(),
                # An open pipe, which RabbitMQ reads: it ends itself when this process is gone.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._await(self.port, self._server)
        return self

    def stop(self) -> None:
        """Shuts down in order. Not running: nothing happens."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(30)
            self._ended()

    def kill(self) -> None:
        """Ends it at once, with no chance to write anything. Not running: nothing happens."""
        if self._server is not None:
            self._server.kill()
            self._ended()

    def halted(self) -> AbstractContextManager[None]:
        """Hangs it until the end of the context."""
        assert self._server is not None
        return halted(self._server.pid)

    def remove(self) -> None:
        """Ends server and name daemon for good."""
        self.kill()
        if self._names is not None:
            self._names.communicate(timeout=10)
            self._names = None

    def manage(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Calls the management API (`/api/…`) and returns the decoded answer, None if it is empty."""
        request = urllib.request.Request(
            f"{self.management_url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Basic {b64encode(b'guest:guest').decode()}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def control(self, *words: str) -> str:
        """What `rabbitmqctl` answers."""
        command = self._command(str(SERVER.with_name("rabbitmqctl")), *words)
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def seen(self, path: Path) -> str:
        """Returns the path under which this server finds a file in its folder."""
        return str(path.resolve())

    def _command(self, *words: str) -> list[str]:
        return list(words)

    def _ended(self) -> None:
        if self._server is not None:
            self._server.communicate(timeout=30)
            self._server = None

    def _configure(self) -> None:
        plugins = (
            DEPLOYED.with_name("enabled_plugins").read_text() if self._has_exporter else "[rabbitmq_management].\n"
        )
        (self.folder / "enabled_plugins").write_text(plugins)
        exporter = f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {self.metrics_port}\n"
        listener = f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
        if self.tls is not None:
            files = [shutil.copy(each, self.folder) for each in (self.tls.certificate, self.tls.key)]
            certificate, key = (self.seen(Path(each)) for each in files)
            listener = (
                "listeners.tcp = none\n"
                f"listeners.ssl.1 = 127.0.0.1:{self.port}\n"
                f"ssl_options.certfile = {certificate}\n"
                f"ssl_options.keyfile = {key}\n"
            )
        (self.folder / "rabbitmq.conf").write_text(
            f"{listener}"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.management_port}\n"
            "disk_free_limit.absolute = 100MB\n"
            f"{exporter if self._has_exporter else ''}"
            f"{DEPLOYED.read_text()}"
            f"{self._more_settings}"
            "log.console = false\n"
        )

    def _environment(self) -> dict[str, str]:
        folder = self.seen(self.folder)
        return os.environ | {
            "HOME": folder,
            "ERL_EPMD_PORT": str(self._names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": f"fedmq{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            # Erlang's threads spin while they wait, which costs more than it gains beside busy neighbours.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def _await(self, port: int, process: subprocess.Popen[bytes]) -> None:
        try:
            until(lambda: listens(port) or process.poll() is not None, "RabbitMQ listens")
            assert process.poll() is None, "RabbitMQ ended"
        except (AssertionError, TimeoutError) as error:
            self.remove()
            raise RuntimeError(f"RabbitMQ did not start: see {self.folder}/output.log and {self.folder}/log") from error
