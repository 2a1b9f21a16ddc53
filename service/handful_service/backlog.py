"""What has been taken in and not yet answered, bounded in rows and in bytes.

A request enters before its body is read, declares its bytes as they arrive and its rows before
they are decoded. One that does not fit is refused then, when nothing has been computed. Large
requests go through the queue in windows, so they declare a window's rows, not all of them.

Where keys tell tenants apart, each may hold as much as is still free: half of all by itself, a
third beside another that does the same, and so on, which leaves room for whoever comes next
(Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998).
Of the few that are let in while shedding each has its equal part, and at most half.
"""

from types import TracebackType
from typing import Self

from handful_service.errors import Overloaded
from handful_service.shedding import Shedding


class Held:
    """What somebody holds."""

    __slots__ = ("bytes", "rows", "turns")

    def __init__(self) -> None:
        self.rows = 0
        self.turns = 0  # rows of each request's next turn: what a newcomer waits for
        self.bytes = 0

    def add(self, rows: int, turns: int, size: int) -> None:
        """Hold more, or less."""
        self.rows += rows
        self.turns += turns
        self.bytes += size


class _Tenant(Held):
    """What one tenant's requests hold."""

    __slots__ = ("name", "requests")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.requests = 0


class Backlog(Held):
    """Counts the rows and bytes that all requests hold. For the event loop.

    Args:
        max_rows: rows of all requests together.
        max_bytes: bytes of all requests together: bodies and decoded windows.
        turn: rows that a request gives a batch before others have their turn.
        shedding: says how many rows may wait for their turn.
    """

    __slots__ = ("_tenants", "max_bytes", "max_rows", "shedding", "turn")

    def __init__(self, *, max_rows: int, max_bytes: int, turn: int, shedding: Shedding) -> None:
        super().__init__()
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.turn = turn
        self.shedding = shedding
        self._tenants: dict[str, _Tenant] = {}

    def enter(self) -> "Entry":
        """Return an empty entry; use it as a context manager, its end frees what it holds."""
        return Entry(self)

    def is_full(self) -> bool:
        """Whether, while shedding, a single image would be refused; then it counts as such."""
        shedding = self.shedding  # where there are tenants, it depends on whose it is
        if not shedding.on or self._tenants:
            return False
        if self.turns < shedding.most() and self.rows < self.max_rows:
            return False
        shedding.refused()
        return True

    def check(self, tenant: _Tenant | None, rows: int, size: int) -> None:
        """Check that so much more fits.

        Raises:
            Overloaded: it does not.
        """
        # One request of a tenant is bounded like all others; its next ones, by its share as well.
        mine = tenant if tenant is not None and tenant.requests > 1 else None
        if size:
            if mine is not None and mine.bytes + size > self.max_bytes - self.bytes:
                raise _beyond_share(f"{mine.bytes} bytes")
            if self.bytes + size > self.max_bytes:
                raise Overloaded(
                    f"{self.bytes} bytes are waiting, of at most {self.max_bytes}; try again later"
                )
        if not rows:
            return
        most, turns = self.shedding.most(), min(rows, self.turn)
        full = self.turns >= most
        if tenant is not None:
            # Of what waits where that is more: the bound is lower now than when it was let in.
            share = max(most, self.turns) / max(2, len(self._tenants))
            modest = tenant.turns + turns <= max(share, most - self.turns)
            full = full and not modest
            if mine is not None and (not modest or mine.rows + rows > self.max_rows - self.rows):
                self.shedding.refused()
                raise _beyond_share(f"{mine.rows} images")
        if full or self.rows + rows > self.max_rows:
            self.shedding.refused()
            raise Overloaded(f"{self.rows} images are waiting, as many as may; try again later")

    def join(self, name: str) -> _Tenant:
        """Return the tenant of that name, with one request more."""
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = _Tenant(name)
        tenant.requests += 1
        return tenant

    def leave(self, tenant: _Tenant) -> None:
        """Let a request of a tenant end, and forget it with its last."""
        tenant.requests -= 1
        if not tenant.requests:
            del self._tenants[tenant.name]


class Entry(Held):
    """What one request holds."""

    __slots__ = ("_backlog", "_tenant")

    def __init__(self, backlog: Backlog) -> None:
        super().__init__()
        self._backlog = backlog
        self._tenant: _Tenant | None = None

    def belong(self, tenant: str) -> None:
        """Be one of a tenant's, before anything is held."""
        self._tenant = self._backlog.join(tenant)

    def check(self, *, rows: int) -> None:
        """Raise what holding `rows` would raise, so that nothing is read in vain."""
        self._backlog.check(self._tenant, rows, 0)

    def hold(self, *, rows: int = 0, size: int = 0) -> None:
        """Hold `rows` more rows and `size` more bytes until the end of the request.

        Raises:
            Overloaded: they do not fit; nothing more is held than before.
        """
        self._backlog.check(self._tenant, rows, size)
        self._add_everywhere(rows, min(rows, self._backlog.turn), size)

    def _add_everywhere(self, rows: int, turns: int, size: int) -> None:
        self.add(rows, turns, size)
        self._backlog.add(rows, turns, size)
        if self._tenant is not None:
            self._tenant.add(rows, turns, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        backlog, had_rows = self._backlog, self.rows
        self._add_everywhere(-self.rows, -self.turns, -self.bytes)
        if self._tenant is not None:
            backlog.leave(self._tenant)
            self._tenant = None
        if had_rows and not backlog.rows:
            backlog.shedding.emptied()


def _beyond_share(held: str) -> Overloaded:
    return Overloaded(
        f"{held} of this key are waiting, and it may hold no more than others leave free; send "
        "fewer at once",
        code="share_exceeded",
    )
