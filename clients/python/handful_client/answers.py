"""From a whole HTTP answer to its checked content."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from handful_client import rows
from handful_client.errors import UnexpectedAnswer
from handful_client.flow import Reply
from handful_client.options import Options
from handful_client.spaces import check_space

Answer = TypeVar("Answer", bound=BaseModel)


def parse(reply: Reply, kind: type[Answer]) -> Answer:
    """Return the JSON answer as its wire type.

    Raises:
        UnexpectedAnswer: it is something else.
    """
    try:
        return kind.model_validate_json(reply.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise unexpected(reply, f"{place}: {first['msg']}") from error


def check_count(reply: Reply, found: int, sent: int) -> None:
    """Refuse an answer that has not one row per image sent: rows could be another's.

    Raises:
        UnexpectedAnswer: it has more or fewer.
    """
    if found != sent:
        raise unexpected(reply, f"{found} rows for {sent} images")


def vectors(
    reply: Reply, found: Sequence[Sequence[float] | None], dim: int, sent: int
) -> rows.Rows:
    """Return JSON's vectors as rows, one per image sent.

    Raises:
        UnexpectedAnswer: more or fewer of them, or one of another length than `dim`.
    """
    check_count(reply, len(found), sent)
    if any(vector is not None and len(vector) != dim for vector in found):
        raise unexpected(reply, f"a vector of another length than {dim}")
    return rows.from_lists(found, dim)


def array(reply: Reply, sent: int) -> rows.Rows:
    """Return an npy answer as rows, one per image sent.

    Raises:
        UnexpectedAnswer: something else, or more or fewer rows.
    """
    try:
        table = rows.from_npy(reply.body)
    except ValueError as error:
        raise unexpected(reply, f"no sound .npy array ({error})") from error
    if table.ndim != 2 or table.dtype != "float32":
        raise unexpected(reply, f"an array {table.dtype} {list(table.shape)}")
    check_count(reply, len(table), sent)
    return table


def space_of(reply: Reply, options: Options) -> str:
    """Return the embedding space that an answer came from, after checking it.

    Raises:
        UnexpectedAnswer: the answer does not say.
        SpaceMismatch: not the one that the client expects.
    """
    space = reply.headers.get("x-embedding-space")
    if not space:
        raise unexpected(reply, "no X-Embedding-Space header")
    check_space(space, options.expect_space, request_id=request_id(reply))
    return space


def unexpected(reply: Reply, what: str) -> UnexpectedAnswer:
    """Return the error for an answer that Handful does not give."""
    return UnexpectedAnswer(
        f"the answer is not what a Handful service of this version gives: {what}; check the URL, "
        "and that client and service are of one release",
        status=reply.status,
        request_id=request_id(reply),
    )


def request_id(reply: Reply) -> str | None:
    """Return the identifier under which the service logged the request."""
    return reply.headers.get("x-request-id")


def dump(body: Any) -> bytes:
    """Return JSON bytes. NaN never gets this far."""
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
