"""What all records have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict

from fedmq_schemas.messages import Frozen


class Record(Frozen):
    """Base of all records. `later`: fields that are not written before they are set."""

    model_config = ConfigDict(ser_json_inf_nan="constants")  # a metric that is NaN stays NaN

    table: ClassVar[str]
    later: ClassVar[frozenset[str]] = frozenset()

    @property
    def key(self) -> str:
        """The key of the document in its table."""
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        """Returns plain data for the record store; tuples become lists."""
        return self.model_dump(mode="json", exclude=set(self.later - self.model_fields_set) or None)


class Change(Frozen):
    """Base of changes of a record: the fields that are set replace those of the document."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    def fields(self) -> dict[str, Any]:
        """Returns plain data for the record store: the fields that are set, and no others."""
        return self.model_dump(mode="json", include=self.model_fields_set)
