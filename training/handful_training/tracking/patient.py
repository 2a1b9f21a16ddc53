"""A client that asks MLflow again when two processes got into each other's way in its database.

Knows nothing of runs or versions.
"""

import logging
import random
import time
from typing import Any

TRIES = 8
FIRST_SECONDS = 0.1
# Each says that the transaction was undone as a whole, so asking again repeats nothing. MLflow
# itself waits 20 s for a lock, but sqlite refuses at once where waiting would be a deadlock.
UNDONE = ("database is locked", "deadlock detected", "could not serialize access")
# MLflow looks whether a tag or alias exists and then inserts, changes or deletes it: of two that
# do so at once, one fails. Asked again, it finds what the other one left.
OVERTAKEN = ("duplicate key value", "UNIQUE constraint failed", "were matched")
REPEATABLE = ("set_", "log_", "delete_model_version_tag")

_log = logging.getLogger(__name__)


class Patient:
    """Calls the methods of `client`, again after growing waits while another one was quicker."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        """Return the client's own method, made patient."""
        method = getattr(self._client, name)
        again = UNDONE + OVERTAKEN if name.startswith(REPEATABLE) else UNDONE

        def ask(*arguments: Any, **options: Any) -> Any:
            for attempt in range(1, TRIES):
                try:
                    return method(*arguments, **options)
                except Exception as error:
                    if not any(words in str(error) for words in again):
                        raise
                    _log.debug("%s: %s", name, error)
                    time.sleep(FIRST_SECONDS * 2**attempt * random.uniform(0.5, 1))  # noqa: S311 - jitter
            return method(*arguments, **options)

        return ask
