import logging
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from fedmq.errors import ConfigError
from fedmq.process.settings import (
    ROLES,
    BlobSettings,
    ClientSettings,
    CombinerSettings,
    ControlSettings,
    DashboardSettings,
    ReducerSettings,
    Settings,
    unknown_variables,
    variables,
)

# The variables of FEDn's README, with values of its kind.
FEDNS_ENV = """\
ALLIANCE_UID=ac435faef-c2df-442e-b349-7f633d3d5523
CLIENT_NAME_BASE=the-client
EXAMPLE=mnist

# storage
FEDN_MINIO_HOST=minio
FEDN_MINIO_PORT=9000
FEDN_MINIO_ACCESS_KEY=fedn_admin
FEDN_MINIO_SECRET_KEY="the minio password"
FEDN_MONGO_USER=fedn_admin
FEDN_MONGO_PASSWORD=the-mongo-password
FEDN_MONGO_HOST=mongo
FEDN_MONGO_PORT=27017
FEDN_ME_USERNAME=fedn_admin
FEDN_ME_PASSWORD=password
FEDN_DASHBOARD_HOST=dashboard
FEDN_DASHBOARD_PORT=5111
FEDN_REDUCER_HOST=reducer
FEDN_REDUCER_PORT=8090
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and none of the variables that this machine happens to have."""
    for variable in variables():
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complaints(cls: type[ClientSettings] | type[ReducerSettings]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        cls.load()
    return caught.value.reason.split("\n")


PATHS = [
    (cls, name, str(field.alias))
    for cls in ROLES.values()
    for name, field in cls.model_fields.items()
    if "Path" in str(field.annotation)
]


@pytest.mark.parametrize(("cls", "name", "variable"), PATHS)
def test_a_relative_path_is_absolute_once_it_is_read(
    cls: type[Settings], name: str, variable: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = getattr(cls.load(), name)
    assert default is None or default.is_absolute()
    monkeypatch.setenv(variable, "some/where")
    assert getattr(cls.load(), name) == folder / "some/where"
    monkeypatch.setenv(variable, "~/where")
    monkeypatch.setenv("HOME", "/home/someone")
    assert getattr(cls.load(), name) == Path("/home/someone/where")


def test_the_paths_of_settings_are_all_known() -> None:
    assert {variable for _, _, variable in PATHS} == {
        "FEDN_CA_FILE",
        "FEDN_DATA_PATH",
        "FEDN_PACKAGE",
        "FEDN_REDUCER_TLS_CERT",
        "FEDN_REDUCER_TLS_KEY",
        "FEDN_STATE_DIR",
    }


def test_every_role_has_defaults_for_everything() -> None:
    for cls in ROLES.values():
        cls.load()
    reducer = ReducerSettings.load()
    assert (reducer.alliance, reducer.reducer_port, reducer.minio_port, reducer.mongo_port) == (
        "fedmq",
        8090,
        9000,
        27017,
    )
    assert DashboardSettings.load().dashboard_port == 5111
    assert reducer.amqp_url.get_secret_value() == "amqp://guest:guest@localhost:5672/"


def test_an_env_file_of_fedn_works_unchanged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / ".env").write_text(FEDNS_ENV)
    with caplog.at_level(logging.WARNING):
        reducer = ReducerSettings.load()
    assert reducer.alliance == "ac435faef-c2df-442e-b349-7f633d3d5523"
    assert (reducer.minio_host, reducer.minio_access_key) == ("minio", "fedn_admin")
    assert reducer.minio_secret_key == SecretStr("the minio password")
    assert (reducer.mongo_host, reducer.mongo_user) == ("mongo", "fedn_admin")
    assert reducer.mongo_password == SecretStr("the-mongo-password")
    assert reducer.reducer_host == "reducer"
    assert ClientSettings.load().client_name_base == "the-client"
    assert caplog.messages == []


def test_options_win_over_the_environment_over_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("FEDN_REDUCER_PORT=1\nFEDN_REDUCER_HOST=file\nFEDN_ADMIN_TOKEN=file")
    monkeypatch.setenv("FEDN_REDUCER_PORT", "2")
    monkeypatch.setenv("FEDN_REDUCER_HOST", "environment")
    settings = ControlSettings.load(reducer_port=3, reducer_host=None)
    assert (settings.reducer_port, settings.reducer_host) == (3, "environment")
    assert settings.admin_token == SecretStr("file")


def test_an_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_MONGO_USER", "")
    monkeypatch.setenv("FEDN_MONGO_PORT", "")
    settings = ReducerSettings.load()
    assert (settings.mongo_user, settings.mongo_port) == (None, 27017)


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_CLIENT_LABELS", "site=north, kind=mri")
    monkeypatch.setenv("FEDN_CLIENT_TASKS", "validate")
    settings = ClientSettings.load()
    assert settings.client_labels == {"site": "north", "kind": "mri"}
    assert settings.client_tasks == ("validate",)
    assert ClientSettings.load(client_labels={"a": "b"}, client_tasks=("train",)).client_labels == {"a": "b"}


@pytest.mark.parametrize("labels", [f"site={'x' * 257}", ",".join(f"l{n}=x" for n in range(65)), f"{'x' * 129}=y"])
def test_labels_that_no_message_can_hold_are_refused_when_a_client_starts(
    monkeypatch: pytest.MonkeyPatch, labels: str
) -> None:
    monkeypatch.setenv("FEDN_CLIENT_LABELS", labels)
    with pytest.raises(ConfigError, match="FEDN_CLIENT_LABELS"):
        ClientSettings.load()


def test_all_invalid_values_are_reported_at_once_with_their_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {
        "ALLIANCE_UID": "a b",
        "FEDN_AMQP_URL": "http://user:secret@host",
        "FEDN_PRESENCE": "-1",
        "FEDN_LOG_LEVEL": "loud",
        "FEDN_HEALTH_PORT": "70000",
        "FEDN_CLIENT_LABELS": "north",
        "FEDN_CLIENT_TASKS": "train,dream",
        "FEDN_CLIENT_DEVICE": "gpu",
        "FEDN_CLIENT_WEIGHT": "many",
        "FEDN_DIRICHLET": "0",
    }
    for name, value in bad.items():
        monkeypatch.setenv(name, value)
    reported = complaints(ClientSettings)
    assert [line.partition("=")[0].partition(" ")[0] for line in reported] == list(bad)
    assert reported[1].startswith("FEDN_AMQP_URL must begin with amqp://")
    assert reported[2] == (
        "FEDN_PRESENCE=-1 must be greater than 0 (seconds between presence messages; "
        "after three silent periods a peer counts as vanished; default: 10.0)"
    )
    assert reported[6].startswith("FEDN_CLIENT_TASKS=dream must be 'train' or 'validate'")
    assert reported[7] == "FEDN_CLIENT_DEVICE=gpu does not have the right form (auto, cpu, 0, or 0,1; default: auto)"
    assert "secret" not in "".join(reported)


def test_an_option_that_is_wrong_names_its_variable() -> None:
    with pytest.raises(ConfigError, match="FEDN_REDUCER_PORT=0 must be greater than or equal to 1"):
        ControlSettings.load(reducer_port=0)


def test_secrets_are_in_no_print(folder: Path) -> None:
    (folder / ".env").write_text(
        "FEDN_AMQP_URL=amqp://u:hidden@h/\nFEDN_MINIO_SECRET_KEY=hidden\n"
        "FEDN_MONGO_PASSWORD=hidden\nFEDN_ADMIN_TOKEN=hidden"
    )
    for cls in ROLES.values():
        settings = cls.load()
        assert "hidden" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_an_unknown_variable_is_warned_of_and_the_near_one_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / ".env").write_text("FEDN_MINO_PORT=1\nOTHER=1")
    monkeypatch.setenv("FEDN_XYZZY_QUUX", "1")
    with caplog.at_level(logging.WARNING):
        CombinerSettings.load()
    assert caplog.messages == [
        "FEDN_MINO_PORT is not a setting: did you mean FEDN_MINIO_PORT?",
        "FEDN_XYZZY_QUUX is not a setting",
    ]
    assert unknown_variables({"PATH": "/", "FEDN_MINIO_PORT": "1"}, folder / "none") == []


@pytest.mark.parametrize(
    "url", ["s3.example.org", "http://", "http://:9000", "http://user@host", "http://host/path", "ftp://host"]
)
def test_a_public_url_is_scheme_host_and_port(url: str) -> None:
    with pytest.raises(ConfigError, match="FEDN_MINIO_PUBLIC_URL"):
        BlobSettings.load(minio_public_url=url)


@pytest.mark.parametrize(
    "url", ["http://s3.example.org", "https://s3.example.org/", "http://10.0.0.1:9000", "http://[::1]:9000"]
)
def test_a_public_url_may_be_a_name_or_an_address(url: str) -> None:
    assert BlobSettings.load(minio_public_url=url).minio_public_url == url


def test_the_list_of_variables_is_whole_and_says_what_each_is() -> None:
    listed = {variable.name: variable for variable in variables()}
    fields = [field for cls in ROLES.values() for field in cls.model_fields.values()]
    assert {field.alias for field in fields} <= set(listed)
    assert all(variable.description for variable in listed.values())
    assert listed["FEDN_CLIENT_TASKS"].default == "train,validate"
    assert listed["FEDN_MINIO_SECRET_KEY"].default == "***"
    assert listed["FEDN_ADMIN_TOKEN"].default == ""
    assert listed["FEDN_REDUCER_PORT"].roles == ("reducer", "dashboard", "control")
    assert listed["EXAMPLE"].roles == ("compose",)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("https://s3.example", {"HOST": "s3.example", "PORT": "443", "TLS": "true"}),
        ("http://s3.example:9000/", {"HOST": "s3.example", "PORT": "9000"}),
        ("127.0.0.1:9001", {"HOST": "127.0.0.1", "PORT": "9001"}),
        ("https://[::1]:9001", {"HOST": "[::1]", "PORT": "9001", "TLS": "true"}),
        ("::1", {"HOST": "[::1]"}),
        ("fd00::1:2", {"HOST": "[fd00::1:2]"}),
    ],
)
def test_an_s3_host_that_is_more_than_a_host_is_refused_with_what_to_write(
    text: str, remedy: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDN_MINIO_HOST", text)
    written = ", ".join(f"FEDN_MINIO_{name}={value}" for name, value in remedy.items())
    with pytest.raises(ConfigError, match=f"FEDN_MINIO_HOST.*{re.escape(f'write {written} (host')}"):
        ReducerSettings.load()
    for name, value in remedy.items():
        monkeypatch.setenv(f"FEDN_MINIO_{name}", value)
    assert ReducerSettings.load().minio_host == remedy["HOST"]


@pytest.mark.parametrize("text", ["s3.example/bucket", "me@s3.example", "https://", "s3.example:port"])
def test_what_names_no_host_is_refused_with_the_form(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_MINIO_HOST", text)
    with pytest.raises(
        ConfigError, match=r"FEDN_MINIO_HOST.*write FEDN_MINIO_HOST=s3\.example or FEDN_MINIO_HOST=\[::1\]"
    ):
        ReducerSettings.load()
