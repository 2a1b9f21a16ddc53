"""`handful-serve`: a small parent, and below it the process that serves (see `supervisor`)."""

import faulthandler
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from handful_service.supervisor import Post, supervise


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Serve until told to stop, then exit: 0 done, 1 failure, 2 bad usage or input."""
    post = supervise() if hasattr(os, "fork") else Post()  # Windows has none
    faulthandler.enable(all_threads=False)  # where native code crashes, stderr says so
    try:
        # Imported here, since the parent is to stay small and to have no code that can crash.
        from handful_service.server import serve  # noqa: PLC0415

        serve(arguments, post)
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
