"""The bases of records and of their changes."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict

from fedmq_schemas.messages import Frozen


class Record(Frozen):
    """Base of all records. Fields in `later` are absent from the document until they are set.

    `identity` is the field that holds the document's key, where one does.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")  # keeps NaN and infinite metrics

    table: ClassVar[str]
    later: ClassVar[frozenset[str]] = frozenset()
    identity: ClassVar[str]

    @property
    def key(self) -> str:
        """The key of the document in its table."""
        return str(getattr(self, self.identity))

    def document(self) -> dict[str, Any]:
        """Returns the record as plain data for the record store. Tuples become lists."""
        return self.model_dump(mode="json", exclude=set(self.later - self.model_fields_set) or None)


class Change(Frozen):
    """Base of changes of a record. The fields that are set replace those of the document."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    def fields(self) -> dict[str, Any]:
        """Returns the fields that are set, as plain data for the record store."""
        return self.model_dump(mode="json", include=self.model_fields_set)
