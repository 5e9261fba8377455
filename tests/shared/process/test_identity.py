"""A process keeps its name over restarts, and never shares a state folder with a living one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmq.errors import ConfigError
from fedmq.process.identity import claim, process_name
from fedmq_schemas.topology import is_name


def test_a_drawn_name_survives_a_restart(tmp_path: Path) -> None:
    first = claim(tmp_path, "client", None, "hospital")
    first.close()
    again = claim(tmp_path, "client", None, "hospital")

    assert first.name == again.name
    assert first.name.startswith("hospital-")
    assert first.folder == again.folder
    again.close()


def test_two_living_processes_with_one_state_directory_get_names_of_their_own(tmp_path: Path) -> None:
    first, second = claim(tmp_path, "client", None, "c"), claim(tmp_path, "client", None, "c")

    assert first.name != second.name
    assert first.folder != second.folder
    first.close()
    second.close()


def test_a_given_name_is_refused_to_a_second_living_process(tmp_path: Path) -> None:
    first = claim(tmp_path, "client", "north", "c")

    with pytest.raises(ConfigError, match="another client named north"):
        claim(tmp_path, "client", "north", "c")
    first.close()
    claim(tmp_path, "client", "north", "c").close()


def test_a_drawn_name_is_a_legal_one_however_long_its_beginning(tmp_path: Path) -> None:
    identity = claim(tmp_path, "client", None, "x" * 64)

    assert is_name(identity.name)
    identity.close()


def test_a_state_folder_that_cannot_be_made_is_a_setting_to_mend(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")

    with pytest.raises(ConfigError, match="FEDN_STATE_DIR"):
        claim(file, "client", None, "c")


def test_process_names_never_repeat() -> None:
    assert process_name() != process_name()
