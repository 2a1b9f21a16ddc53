"""Tries a version in a process of its own before this one loads it.

What a graph holds is checked before it runs, but the libraries that check and run it are large and
written in C++: on bytes made to harm they may crash, hang, or take all memory. Whatever happens
there, this process goes on with the model that it has.
"""

import os
import subprocess
import sys
from pathlib import Path

from handful_bundle.errors import BundleError
from handful_bundle.trial import REFUSED
from handful_service.memory import memory_limit, memory_used
from handful_service.settings import MEBIBYTE, Settings
from handful_service.supervisor import ending

_LEAST_BYTES = 512 * MEBIBYTE  # the libraries alone take a third of it
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


class Trial:
    """Tries bundles, one at a time.

    Args:
        settings: how long one may take, and how much of the memory.
    """

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.trial_seconds
        self._share = settings.memory_share
        self._passed: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def run(self, root: Path) -> None:
        """Try the bundle in `root`, a folder of the cache; one that has passed is not tried again.

        Raises:
            BundleError: it is refused, or was not loaded within the time and memory that there is.
        """
        if root.name in self._passed:
            return
        command = [sys.executable, "-P", "-m", "handful_bundle.trial", str(root)]
        limits = ["--memory", str(self._memory()), "--seconds", str(int(self._seconds) + 1)]
        with subprocess.Popen(  # noqa: S603 - our own module, and a folder that we named
            [*command, *limits],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            self._process = process
            try:
                if self._closed:
                    process.kill()
                said, _ = process.communicate(timeout=self._seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise BundleError(
                    f"not loaded within {self._seconds:g} s in a process of its own; if it is "
                    "sound and that large, raise HANDFUL_TRIAL_SECONDS"
                ) from None
            finally:
                self._process = None
        if process.returncode == REFUSED:
            raise BundleError(said.decode(errors="replace"))
        if process.returncode:
            raise BundleError(
                f"loading it ended the process that tried it ({ending(process.returncode)}); "
                "register a sound version"
            )
        self._passed.add(root.name)

    def close(self) -> None:
        """End a trial that is under way."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()

    def _memory(self) -> int:
        """Return how many bytes are left below the ceiling: a model that needs more harms."""
        limit, used = memory_limit(), memory_used()
        if limit is None or used is None:
            return sys.maxsize
        return max(_LEAST_BYTES, int(self._share * limit) - used)


def _environment() -> dict[str, str]:
    """Return this process's environment without what a model need not know: keys, addresses."""
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith(("PYTHON", "LC_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
