"""Which ports others than this machine reach, and that none of them is open without a token."""

from __future__ import annotations

import socket
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from fedmq.errors import ConfigError
from fedmq.process.settings import AllianceSettings, Settings
from fedmq.web.access import Access, is_loopback

SHORTEST_TOKEN = 16
"""In characters. Guesses are not limited in number."""
KNOWN = frozenset({"admin", "changeme", "fedmq", "fedn_admin", "guest", "minioadmin", "password", "secret", "token"})
"""Passwords of examples and of freshly installed servers."""
MAKE = "`openssl rand -hex 24` prints one"


def open_port(settings: AllianceSettings, bind: str, variable: str, names: tuple[str, ...] = ()) -> Access:
    """Returns who may use the port that listens on `bind`, as `variable` says, unless FEDN_PUBLISHED_ON says otherwise.

    `names`: further names under which programs of this machine reach it.

    Raises ConfigError, with the remedy, if others than this machine reach it and a token is missing or short, or a secret
    of this process is a well-known one.
    """
    has_admin = "admin_token" in type(settings).model_fields
    admin: SecretStr | None = getattr(settings, "admin_token", None)
    token, metrics_token = (
        None if each is None else each.get_secret_value() for each in (admin, settings.health_token)
    )
    if is_loopback(settings.published_on or bind):
        own = frozenset(name.lower() for name in (*names, socket.gethostname()))
        return Access(token, metrics_token, names=own, in_container=settings.published_on is not None)
    where = variable if settings.published_on is None else "FEDN_PUBLISHED_ON"
    at = f"{where}={settings.published_on or bind}"
    is_health = variable == "FEDN_HEALTH_BIND"
    wanted = "FEDN_HEALTH_TOKEN" if is_health and not has_admin else "FEDN_ADMIN_TOKEN"
    if token is None and not (is_health and metrics_token is not None):
        raise ConfigError(
            f"{at} lets others than this machine reach the port, and no token protects it: set {wanted} ({MAKE}), or "
            f"{where}=127.0.0.1"
        )
    for name, value in (("FEDN_ADMIN_TOKEN", token), ("FEDN_HEALTH_TOKEN", metrics_token)):
        if value is not None and (len(value) < SHORTEST_TOKEN or value.lower() in KNOWN):
            raise ConfigError(
                f"{at} lets others than this machine reach the port, and {name} can be guessed: it needs at least "
                f"{SHORTEST_TOKEN} characters ({MAKE})"
            )
    if known := well_known_secrets(settings):
        raise ConfigError(
            f"{at} lets others than this machine reach the port, and everybody knows the password in "
            f"{' and '.join(known)}: change it at the server and here, or set {where}=127.0.0.1"
        )
    return Access(token, metrics_token, is_local=False)


def well_known_secrets(settings: Settings) -> list[str]:
    """Returns the variables whose value is, or holds, a password that everybody knows."""
    found = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            password = unquote(urlsplit(text).password or "") if "://" in text else text
            if password.lower() in KNOWN:
                found.append(str(field.alias))
    return found
