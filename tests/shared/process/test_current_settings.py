"""The value of each setting here and now: where it is set, and that no secret is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmq.errors import ConfigError
from fedmq.process.settings import ROLES, variables
from fedmq.process.settings.current import CurrentSetting, current_settings


def listed(role: str | None, environ: dict[str, str], folder: Path) -> dict[str, CurrentSetting]:
    return {each.variable.name: each for each in current_settings(role, environ, folder / ".env")}


def test_the_environment_precedes_the_file_and_an_empty_value_is_none(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FEDN_PRESENCE=5\nFEDN_CLIENT_NAME=filed\nFEDN_DATA_PATH=/data\n")
    found = listed("client", {"FEDN_PRESENCE": "", "FEDN_CLIENT_NAME": "given", "fedn_log_level": "debug"}, tmp_path)

    assert (found["FEDN_PRESENCE"].value, found["FEDN_PRESENCE"].source) == ("5", ".env")
    assert (found["FEDN_CLIENT_NAME"].value, found["FEDN_CLIENT_NAME"].source) == ("given", "environment")
    assert (found["FEDN_LOG_LEVEL"].value, found["FEDN_LOG_LEVEL"].source) == ("debug", "environment")
    assert (found["FEDN_CLIENT_WEIGHT"].value, found["FEDN_CLIENT_WEIGHT"].source) == ("1", "default")
    assert found["FEDN_DATA_PATH"].variable.description == "the client's private data"


def test_no_secret_is_shown(tmp_path: Path) -> None:
    secrets = ("FEDN_AMQP_URL", "FEDN_MINIO_SECRET_KEY", "FEDN_MONGO_PASSWORD", "FEDN_ADMIN_TOKEN", "FEDN_ME_PASSWORD")
    found = listed(None, dict.fromkeys(secrets, "hush"), tmp_path)

    assert {found[name].value for name in secrets} == {"***"}
    assert "hush" not in str(found)
    assert listed(None, {}, tmp_path)["FEDN_ADMIN_TOKEN"].value == ""


@pytest.mark.parametrize("role", [*ROLES, "compose", None])
def test_a_role_has_the_settings_that_it_reads_and_none_has_more_than_all(role: str | None, tmp_path: Path) -> None:
    wanted = [each.name for each in variables() if role is None or role in each.roles]
    assert list(listed(role, {}, tmp_path)) == wanted


def test_an_unknown_role_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no role 'server': reducer, combiner, client, dashboard, control, compose"):
        listed("server", {}, tmp_path)


URLS = ("FEDN_TRACES_URL", "FEDN_RABBITMQ_MANAGEMENT_URL", "FEDN_MINIO_PUBLIC_URL", "FEDN_MINIO_HOST")


@pytest.mark.parametrize("url", ["http://u:HUSH@host", "http://u:HU@HUSH/HUSH@host", "http://HUSH@host", "u:HUSH@host"])
@pytest.mark.parametrize("name", URLS)
def test_no_account_of_an_address_is_shown(name: str, url: str, tmp_path: Path) -> None:
    found = listed(None, {name: url}, tmp_path)[name]
    assert found.value == ("http://***@host" if "://" in url else "***@host")


@pytest.mark.parametrize("url", ["http://u:HUSH@host", "http://HUSH@host", "http://u:HU@HUSH@host", "u:HUSH@host:1"])
@pytest.mark.parametrize("name", URLS)
def test_no_account_of_a_refused_address_is_in_the_error(
    name: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, url)
    with pytest.raises(ConfigError, match=name) as caught:
        ROLES["reducer"].load()
    assert "HU" not in str(caught.value) and "***@host" in str(caught.value)


def test_a_value_with_an_at_sign_and_no_account_is_shown(tmp_path: Path) -> None:
    labels = "owner=a:b@example.org,site=north"
    assert listed("client", {"FEDN_CLIENT_LABELS": labels}, tmp_path)["FEDN_CLIENT_LABELS"].value == labels
