"""Performs the effects of retention: deletes blobs that nothing needs any more. Each effect may be performed again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from fedmq.blobs.base import Blobs
from fedmq.errors import NotFound
from fedmq.records.base import Records
from fedmq_reducer.retention import Delete, ExpireModels, Sweep, SweepOrphans, SweepSession, superfluous
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.records import Ledger, ModelChange, is_kept


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
            SweepOrphans: self.sweep_orphans,
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

    def sweep_orphans(self, effect: SweepOrphans) -> None:
        """Deletes the uploads that no ledger of their round names. Keeps all of a round with an unreadable ledger."""
        session, number = effect.session, effect.round
        prefix = keys.session_blobs(session) if number is None else keys.round_blobs(session, number)
        found = defaultdict[int | None, list[str]](list)
        for info in self._blobs.list(prefix):
            if keys.is_upload(info.key) or keys.is_ledger(info.key):
                found[keys.round_of(info.key)].append(info.key)
        for names in found.values():
            self._sweep_orphans_among(names)

    def _sweep_orphans_among(self, names: list[str]) -> None:
        uploads = {key for key in names if keys.is_upload(key)}
        if not uploads:
            return
        for key in filter(keys.is_ledger, names):
            try:
                ledger = Ledger.model_validate_json(self._blobs.get(key))
            except NotFound:
                continue
            except ValidationError:
                return
            uploads -= {entry.blob.key for entry in ledger.entries if entry.blob is not None}
        for key in sorted(uploads):
            self._blobs.delete(key)

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
