"""What a message may say of a client's private state. `tests/sandbox/test_personal_models.py` searches all that leaves."""

from fedmq_schemas.messages import PersonalStart

PERSONAL = {"outcome", "session", "reason"}


def test_what_an_update_says_of_a_clients_state_is_a_word_a_session_and_a_short_reason() -> None:
    fields = PersonalStart.model_json_schema()["properties"]
    assert fields.keys() == PERSONAL
    assert fields["outcome"]["enum"] == ["continued", "fresh"]
    assert fields["reason"]["maxLength"] == 300
