"""Performs the effects of retention: deletes blobs that nothing needs any more. Each effect may be performed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedmq.blobs.base import Blobs
from fedmq.records.base import Records
from fedmq_reducer.retention import Delete, ExpireModels, Sweep, SweepSession, superfluous
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.records import ModelChange, is_kept


class RetentionPerformer:
    """The performers of one reducer."""

    def __init__(self, blobs: Blobs, records: Records) -> None:
        self._blobs = blobs
        self._records = records

    def performers(self) -> dict[type[Any], Callable[[Any], Any]]:
        """Returns the performer of each class of effects."""
        return {
            Sweep: self.sweep,
            SweepSession: self.sweep_session,
            ExpireModels: self.expire_models,
            Delete: self.delete,
        }

    def sweep(self, effect: Sweep) -> None:
        """Deletes uploads and partials of rounds up to `up_to_round`. Ledgers and optimizer states are kept."""
        self._sweep(effect.session, effect.up_to_round)

    def sweep_session(self, effect: SweepSession) -> None:
        """Deletes uploads and partials of all rounds."""
        self._sweep(effect.session, None)

    def _sweep(self, session: str, up_to_round: int | None) -> None:
        for info in self._blobs.list(keys.session_blobs(session)):
            number = keys.expiring_round(info.key)
            if number is not None and (up_to_round is None or number <= up_to_round):
                self._blobs.delete(info.key)

    def expire_models(self, effect: ExpireModels) -> None:
        """Records which models are no longer kept. Keeps models that a session has started from, or is to start from."""
        expired = superfluous(self._records.find(tables.MODELS, {"session": effect.session, "kept": True}), effect)
        if not expired:
            return
        named = [name for model in expired for name in (model, keys.model_blob(model))]
        seeds = {keys.named_model(each["seed"]) for each in self._records.find(tables.SESSIONS, {"seed": named})}
        for model in expired:
            if model not in seeds:
                change = ModelChange(kept=False, deleted=False)
                self._records.update(tables.MODELS, model, change.fields(), effect.term)

    def delete(self, effect: Delete) -> None:
        """Performs `Delete`: deletes the bytes of marked models that are not deleted yet, or there again."""
        for model in self._records.find(tables.MODELS, {"deleted": False}):
            for key in self._blobs_of(model):
                self._blobs.delete(key)
            self._records.update(tables.MODELS, model["model"], ModelChange(deleted=True).fields(), effect.term)
        if effect.session is not None:
            for info in list(self._blobs.list(keys.models_of_session(effect.session))):
                found = self._records.get(tables.MODELS, keys.model_id(info.key))
                if found is not None and not is_kept(found):
                    self._blobs.delete(info.key)

    def _blobs_of(self, model: Mapping[str, Any]) -> list[str]:
        """Returns the keys of a model, and of the server optimizer's state with which a round could start from it."""
        committed = self._records.get(tables.ROUNDS, keys.round_record(model["session"], model["round"]))
        optimizer = committed["optimizer"] if committed is not None else None
        return [model["ref"]["key"], *([optimizer["key"]] if optimizer is not None else [])]
