"""Certificates for tests: an authority of one's own and what it signs, made by the `openssl` command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def missing() -> str | None:
    """Why no certificate can be made on this machine, or None if one can."""
    return None if shutil.which("openssl") else "openssl is not installed: apt-get install openssl"


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate and its key, and of the authority that signed it."""

    certificate: Path
    key: Path
    authority: Path


class Authority:
    """Its certificate is `certificate`; all its files are in `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = name
        self.certificate, self._key = folder / f"{name}.pem", folder / f"{name}-key.pem"
        # The system's own settings would add extensions of their own.
        self._settings = folder / "openssl.cnf"
        self._settings.write_text("[req]\ndistinguished_name=name\n[name]\n")
        uses = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign", "subjectKeyIdentifier=hash")
        self._make(name, self.certificate, self._key, *uses)

    def sign(self, name: str, names: str = NAMES) -> Pair:
        """A server's certificate."""
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        extensions = (names, "basicConstraints=CA:FALSE", "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid")
        self._make(name, certificate, key, *extensions, by=("-CA", self.certificate, "-CAkey", self._key))
        return Pair(certificate, key, self.certificate)

    def _make(self, name: str, certificate: Path, key: Path, *extensions: str, by: tuple[str | Path, ...] = ()) -> None:
        added = [word for extension in extensions for word in ("-addext", extension)]
        words = ("-x509", "-config", self._settings, "-subj", f"/CN={name}", "-days", "2")
        command = ["openssl", "req", *words, *_CURVE, "-keyout", key, "-out", certificate, *by, *added]
        subprocess.run(command, check=True, capture_output=True)
