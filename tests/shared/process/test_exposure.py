"""A port that others reach is refused at the start, unless a token protects it and no secret is a well-known one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmq.errors import ConfigError
from fedmq.process.exposure import open_port
from fedmq.process.settings import AllianceSettings, ClientSettings, DashboardSettings, ReducerSettings, variables

TOKEN = "0123456789abcdef"
URL = "amqp://me:a-password-of-my-own@broker/"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the variables of this machine, and secrets of an alliance's own."""
    for variable in variables():
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDN_AMQP_URL", URL)
    monkeypatch.setenv("FEDN_MINIO_SECRET_KEY", "a-key-of-my-own")


def refusal(settings: AllianceSettings, bind: str = "0.0.0.0", variable: str = "FEDN_REDUCER_BIND") -> str:
    with pytest.raises(ConfigError) as caught:
        open_port(settings, bind, variable)
    return caught.value.reason


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_a_port_of_this_machine_needs_no_token(bind: str) -> None:
    assert open_port(ReducerSettings.load(), bind, "FEDN_REDUCER_BIND").is_local


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "10.0.0.5", "fd00::1", "reducer.example"])
def test_a_port_that_others_reach_without_a_token_is_refused_with_the_remedy(bind: str) -> None:
    assert refusal(ReducerSettings.load(), bind) == (
        f"FEDN_REDUCER_BIND={bind} lets others than this machine reach the port, and no token protects it: set "
        "FEDN_ADMIN_TOKEN (`openssl rand -hex 24` prints one), or FEDN_REDUCER_BIND=127.0.0.1"
    )
    assert not open_port(ReducerSettings.load(admin_token=TOKEN), bind, "FEDN_REDUCER_BIND").is_local


@pytest.mark.parametrize("token", ["token", "password", "fifteen-charact"])
def test_a_token_that_can_be_guessed_is_refused(token: str) -> None:
    assert "FEDN_ADMIN_TOKEN can be guessed: it needs at least 16 characters" in refusal(
        ReducerSettings.load(admin_token=token)
    )


def test_where_a_container_is_published_decides_and_not_where_it_listens() -> None:
    inside = ReducerSettings.load(published_on="127.0.0.1")
    assert open_port(inside, "0.0.0.0", "FEDN_REDUCER_BIND").is_local
    for address in ("0.0.0.0", "192.0.2.1", "[::]"):
        outside = ReducerSettings.load(published_on=address)
        assert refusal(outside).startswith(f"FEDN_PUBLISHED_ON={address.strip('[]')} lets others")
        assert refusal(outside, "127.0.0.1").startswith("FEDN_PUBLISHED_ON="), "a proxy publishes it"
    with pytest.raises(ConfigError, match="FEDN_PUBLISHED_ON"):
        ReducerSettings.load(published_on="http://x")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"amqp_url": "amqp://fedmq:password@rabbitmq:5672/"}, "FEDN_AMQP_URL"),
        ({"amqp_url": "amqp://guest:gu%65st@rabbitmq:5672/"}, "FEDN_AMQP_URL"),
        ({"minio_secret_key": "minioadmin"}, "FEDN_MINIO_SECRET_KEY"),
        ({"mongo_password": "password"}, "FEDN_MONGO_PASSWORD"),
        ({"mongo_url": "mongodb://me:Password@mongo/"}, "FEDN_MONGO_URL"),
    ],
)
def test_a_published_port_beside_a_password_that_everybody_knows_is_refused(options: dict[str, str], name: str) -> None:
    words = refusal(ReducerSettings.load(admin_token=TOKEN, published_on="0.0.0.0", **options))
    assert f"everybody knows the password in {name}: change it" in words
    assert "guest" not in words and "minioadmin" not in words
    open_port(ReducerSettings.load(published_on="127.0.0.1", **options), "0.0.0.0", "FEDN_REDUCER_BIND")


def test_metrics_beyond_this_machine_need_a_token_of_their_own_or_the_admins() -> None:
    def health(settings: AllianceSettings) -> str:
        return refusal(settings, variable="FEDN_HEALTH_BIND")

    assert "set FEDN_HEALTH_TOKEN" in health(ClientSettings.load())
    assert "set FEDN_ADMIN_TOKEN" in health(ReducerSettings.load())
    assert "FEDN_HEALTH_TOKEN can be guessed" in health(ClientSettings.load(health_token="short"))
    client = open_port(ClientSettings.load(health_token=TOKEN), "0.0.0.0", "FEDN_HEALTH_BIND")
    assert (client.token, client.metrics_token, client.is_local) == (None, TOKEN, False)
    reducer = open_port(ReducerSettings.load(admin_token=TOKEN), "0.0.0.0", "FEDN_HEALTH_BIND")
    assert (reducer.token, reducer.metrics_token) == (TOKEN, None)


def test_the_token_of_metrics_does_not_open_the_dashboard() -> None:
    assert "set FEDN_ADMIN_TOKEN" in refusal(DashboardSettings.load(health_token=TOKEN), variable="FEDN_DASHBOARD_BIND")
