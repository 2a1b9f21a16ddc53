"""`make bench` knows its benches."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PATHS = (HERE, HERE.parents[1] / "deploy", HERE.parent / "service")  # as the Makefile sets them
SCRIPT = """
import importlib, run
for name in (*run.NAMES, *run.ON_REQUEST):
    assert callable(importlib.import_module(f"bench_{name.replace('-', '_')}").main), name
print(len(run.NAMES))
"""


def test_each_bench_can_be_started() -> None:
    """Every name that `make bench` takes is a module that imports and has a `main`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
