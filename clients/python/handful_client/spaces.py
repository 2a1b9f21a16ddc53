"""The guard that keeps embeddings of different spaces apart."""

from handful_client.errors import SpaceMismatch


def check_space(found: str, expected: str | None, *, request_id: str | None = None) -> None:
    """Refuse an answer from another embedding space than the one expected; None expects any.

    Raises:
        SpaceMismatch: it is another.
    """
    if expected is not None and found != expected:
        raise SpaceMismatch(
            f"the service answers in the embedding space {found}, expected {expected}; embed "
            "again what you want to compare, or serve the model of that space",
            request_id=request_id,
        )


class SpaceGuard:
    """Holds a series of answers to the embedding space of its first."""

    def __init__(self) -> None:
        self._first: str | None = None

    def check(self, space: str, *, at: int) -> None:
        """Refuse an answer, from image `at` on, in another space than the first answer's.

        Raises:
            SpaceMismatch: the service has swapped to another space in between.
        """
        if self._first is None:
            self._first = space
        if space != self._first:
            raise SpaceMismatch(
                f"from image {at} on the service answers in the embedding space {space}, before "
                f"in {self._first}: another encoder was put into service meanwhile; start again, "
                "so that all embeddings are of one space"
            )
