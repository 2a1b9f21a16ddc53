"""Which version is served: champion, challenger, previous, and how they move.

MLflow changes one alias at a time and knows no condition, so nothing here relies on being alone:
`challenger` is computed afresh until it holds, `champion` is always written in one step (whoever
polls it sees the old version or the new one), and after each move `previous` is looked at again.
Each promotion and rollback leaves its time on the version: `previous` can be told from them.
Knows nothing of files.
"""

from datetime import UTC, datetime
from typing import Any

from handful_training.tracking.lineage import HEAD_TAG, SPACE_TAG
from handful_training.tracking.store import Store

CHAMPION = "champion"  # served
CHALLENGER = "challenger"  # last trained
PREVIOUS = "previous"  # champion before; what `rollback` returns to
PROMOTED_TAG = "handful.promoted"  # when it last became champion
ROLLED_BACK_TAG = "handful.rolled_back"  # when people turned away from it
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # a missing alias is the latter
LOOK_BACK = 1000  # versions


class Aliases:
    """The aliases of all models of one MLflow."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, name: str, alias: str) -> str | None:
        """Return the version that `alias` names, None where there is none."""
        found = self._store.ask(
            lambda client: client.get_model_version_by_alias(name, alias), absent=GONE
        )
        return None if found is None else str(found.version)

    def point_challenger(self, name: str) -> None:
        """Make `challenger` the newest version, whoever else is registering one."""
        while (newest := self.newest(name)) is not None:
            if self.get(name, CHALLENGER) == newest == self.newest(name):
                return
            self._set(name, CHALLENGER, newest)

    def newest(self, name: str) -> str | None:
        """Return the version with the highest number."""
        found = self._search(f"name = '{name}'", 1)
        return str(found[0].version) if found else None

    def advance(self, name: str, version: str) -> None:
        """Make `version` the champion, and the champion until now `previous`."""
        champion = self.get(name, CHAMPION)
        self._untag(name, version, ROLLED_BACK_TAG)
        if champion == version:
            return
        if champion is not None:
            self._set(name, PREVIOUS, champion)
        self._tag(name, version, PROMOTED_TAG)
        self._set(name, CHAMPION, version)  # last: this is what the service sees
        self._settle(name)

    def turn_back(self, name: str, version: str) -> None:
        """Make `version` the champion and the champion `previous`, marked as rolled back."""
        champion = self.get(name, CHAMPION)
        if champion is not None and champion != version:
            self._tag(name, champion, ROLLED_BACK_TAG)  # first: the gate must not undo it
        self._untag(name, version, ROLLED_BACK_TAG)
        self._tag(name, version, PROMOTED_TAG)
        self._set(name, CHAMPION, version)
        if champion is not None and champion != version:
            self._set(name, PREVIOUS, champion)
        self._settle(name)

    def previous(self, name: str) -> str | None:
        """Return the version to roll back to: `previous`, else the last other champion."""
        champion, previous = self.get(name, CHAMPION), self.get(name, PREVIOUS)
        if previous is not None and previous != champion:
            return previous
        return self._former(name, champion)

    def rolled_back(self, name: str, version: str) -> str | None:
        """Return the version that was rolled back and holds the same as `version`, if any.

        Trained again on the same data, the same head would come back under another number.
        """
        with self._store.errors():
            tags = self._store.client.get_model_version(name, version).tags
        if ROLLED_BACK_TAG in tags:
            return version
        if HEAD_TAG not in tags or SPACE_TAG not in tags:
            return None
        same = self._search(
            f"name = '{name}' and tag.`{SPACE_TAG}` = '{tags[SPACE_TAG]}' "
            f"and tag.`{HEAD_TAG}` = '{tags[HEAD_TAG]}'",
            LOOK_BACK,
        )
        return next((str(one.version) for one in same if ROLLED_BACK_TAG in one.tags), None)

    def _settle(self, name: str) -> None:
        """Put `previous` right where two moves at once left it on the champion."""
        champion = self.get(name, CHAMPION)
        if champion is None or self.get(name, PREVIOUS) != champion:
            return
        former = self._former(name, champion)
        if former is not None:
            self._set(name, PREVIOUS, former)

    def _former(self, name: str, champion: str | None) -> str | None:
        """Return the version that was champion last, before the one that is."""
        found = self._search(f"name = '{name}' and tag.`{PROMOTED_TAG}` LIKE '%'", LOOK_BACK)
        past = [
            (one.tags[PROMOTED_TAG], str(one.version))
            for one in found
            if str(one.version) != champion and ROLLED_BACK_TAG not in one.tags
        ]
        return max(past)[1] if past else None

    def _search(self, words: str, limit: int) -> Any:
        with self._store.errors():
            return self._store.client.search_model_versions(
                words, order_by=["version_number DESC"], max_results=limit
            )

    def _set(self, name: str, alias: str, version: str) -> None:
        with self._store.errors():
            self._store.client.set_registered_model_alias(name, alias, version)

    def _tag(self, name: str, version: str, tag: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._store.errors():
            self._store.client.set_model_version_tag(name, version, tag, now)

    def _untag(self, name: str, version: str, tag: str) -> None:
        with self._store.errors():
            self._store.client.delete_model_version_tag(name, version, tag)
