"""Secrets that a file holds: what counts, and how each fault is reported."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from fedmq.errors import ConfigError
from fedmq.process.settings import (
    ROLES,
    ClientSettings,
    CombinerSettings,
    ControlSettings,
    ReducerSettings,
    Settings,
    unknown_variables,
    variables,
    without_secrets,
)
from fedmq.process.settings.current import current_settings

SECRETS = (
    "FEDN_ADMIN_TOKEN",
    "FEDN_AMQP_URL",
    "FEDN_HEALTH_TOKEN",
    "FEDN_MINIO_ACCESS_KEY",
    "FEDN_MINIO_SECRET_KEY",
    "FEDN_MONGO_PASSWORD",
    "FEDN_MONGO_URL",
)
URLS = {"FEDN_AMQP_URL": "amqp://me:hush@broker/", "FEDN_MONGO_URL": "mongodb://me:hush@records/"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and none of the variables that this machine happens to have."""
    for variable in variables():
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def fault(cls: type[Settings] = ControlSettings) -> str:
    with pytest.raises(ConfigError) as caught:
        cls.load()
    return caught.value.reason


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_holds_a_secret(name: str, end: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = URLS.get(name, " hush ")
    monkeypatch.setenv(f"{name}_FILE", str(written(folder / "secret", value + end)))
    [field] = [each for each, info in ReducerSettings.model_fields.items() if info.alias == name]
    found = getattr(ReducerSettings.load(), field)
    assert (found if isinstance(found, str) else found.get_secret_value()) == value


def test_a_file_may_be_named_in_the_env_file_and_from_the_current_folder(folder: Path) -> None:
    written(folder / "token", "hush\n")
    written(folder / ".env", "FEDN_ADMIN_TOKEN_FILE=token\n")
    token = ControlSettings.load().admin_token
    assert token is not None and token.get_secret_value() == "hush"


def test_an_option_precedes_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_ADMIN_TOKEN_FILE", "/nowhere")
    token = ControlSettings.load(admin_token="given").admin_token
    assert token is not None and token.get_secret_value() == "given"


def test_both_given_is_an_error_and_an_empty_one_is_not_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(folder / ".env", "FEDN_ADMIN_TOKEN=one\n")
    monkeypatch.setenv("FEDN_ADMIN_TOKEN_FILE", str(written(folder / "token", "two")))
    assert fault() == "FEDN_ADMIN_TOKEN and FEDN_ADMIN_TOKEN_FILE are both given: remove one of them"
    monkeypatch.setenv("FEDN_ADMIN_TOKEN_FILE", "")
    token = ControlSettings.load().admin_token
    assert token is not None and token.get_secret_value() == "one"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty: write the value of FEDN_ADMIN_TOKEN into it"),
        ("\n", "is empty: write the value of FEDN_ADMIN_TOKEN into it"),
        ("a\nb\n", "must hold the value of FEDN_ADMIN_TOKEN in one line and nothing else"),
        ("a\0b", "must hold the value of FEDN_ADMIN_TOKEN in one line and nothing else"),
        (b"\xff\xfe", "is no text: write the value in UTF-8"),
        ("x" * 70_000, "is longer than 65536 bytes: name the file that holds the value alone"),
    ],
)
def test_a_file_that_holds_no_secret_is_reported_without_its_content(
    content: str | bytes, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(folder / "token", content)
    monkeypatch.setenv("FEDN_ADMIN_TOKEN_FILE", str(path))
    assert fault() == f"FEDN_ADMIN_TOKEN_FILE={path} {words}"


def test_a_missing_file_and_a_folder_in_its_place_are_reported_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDN_ADMIN_TOKEN_FILE", f"{folder}/none")
    assert fault() == (
        f"FEDN_ADMIN_TOKEN_FILE={folder}/none does not exist: write the value into this file, or correct the path"
    )
    monkeypatch.setenv("FEDN_ADMIN_TOKEN_FILE", str(folder))
    assert fault() == (
        f"FEDN_ADMIN_TOKEN_FILE={folder} is a folder, which Docker makes where the file to mount is missing: "
        "name the file that holds the value"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_that_nobody_writes_to_does_not_hold_up_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    monkeypatch.setenv("FEDN_ADMIN_TOKEN_FILE", str(folder / "pipe"))
    assert "is no file but a device or a pipe" in fault()


def test_an_unreadable_file_is_reported_with_the_account_that_must_read_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setenv("FEDN_ADMIN_TOKEN_FILE", str(written(folder / "token", "hush")))
    monkeypatch.setattr(Path, "open", denied)  # root, as which these tests may run, may read every file
    assert "can't be read (Permission denied): let the account of this process (user " in fault()


def test_all_faults_of_files_and_of_values_are_reported_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_MINIO_SECRET_KEY_FILE", "/nowhere")
    monkeypatch.setenv("FEDN_MINIO_PORT", "0")
    monkeypatch.setenv("FEDN_AMQP_URL_FILE", str(written(folder / "url", "http://me:hush@broker")))
    lines = fault(CombinerSettings).split("\n")
    assert [line.partition(" ")[0] for line in lines] == [
        "FEDN_MINIO_SECRET_KEY_FILE=/nowhere",
        "FEDN_MINIO_PORT=0",
        "FEDN_AMQP_URL_FILE",
    ]
    assert "hush" not in "".join(lines)


def test_a_role_reads_no_file_of_a_secret_that_it_does_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_MONGO_PASSWORD_FILE", "/nowhere")
    ClientSettings.load()


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o440, False), (0o644, True)])
def test_a_file_that_every_account_may_read_is_warned_of(
    mode: int, warned: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(folder / "token", "hush", mode)
    monkeypatch.setenv("FEDN_ADMIN_TOKEN_FILE", str(path))
    with caplog.at_level(logging.WARNING):
        ControlSettings.load()
    words = f"FEDN_ADMIN_TOKEN_FILE={path} can be read by every account of this machine: chmod 600"
    assert caplog.messages == [words] * warned


def test_the_variables_of_files_are_known_and_shown(tmp_path: Path) -> None:
    listed = {variable.name: variable for variable in variables()}
    assert {name for name in listed if name.removesuffix("_FILE") in listed and name.endswith("_FILE")} == {
        f"{name}_FILE" for name in SECRETS
    }
    assert listed["FEDN_AMQP_URL_FILE"].description == "file that holds FEDN_AMQP_URL, instead of that variable"
    assert listed["FEDN_AMQP_URL_FILE"].roles == tuple(ROLES)[:4]
    assert unknown_variables({f"{name}_FILE": "/x" for name in SECRETS}, tmp_path / "none") == []
    found = {
        each.variable.name: (each.value, each.source)
        for each in current_settings("client", {"FEDN_AMQP_URL_FILE": "/run/url"}, tmp_path / "none")
    }
    assert found["FEDN_AMQP_URL"] == ("***", "FEDN_AMQP_URL_FILE")
    assert found["FEDN_AMQP_URL_FILE"] == ("/run/url", "environment")


def test_an_environment_without_secrets_keeps_all_else() -> None:
    kept = {"PATH": "/bin", "FEDN_DATA_PATH": "/data", "FEDN_CA_FILE": "/ca.pem", "OTHER_TOKEN": "theirs"}
    secret = dict.fromkeys(SECRETS, "hush")
    secret |= {f"{name}_FILE": "/x" for name in secret} | {"fedn_amqp_url": "hush", "FEDN_ME_PASSWORD": "hush"}
    assert without_secrets(kept | secret) == kept
