"""The rollback of docs/operations.md, as it stands there, on a registry and a service that run."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
# Two versions that differ in their head; the second is the champion.
REGISTER = """
import sys
from pathlib import Path
from handful_training.tracking import Tracker
tracker = Tracker.open()
for bundle in sys.argv[1:]:
    with tracker.run("handful") as run:
        version = tracker.registry.register("handful", Path(bundle), run)
    tracker.registry.promote("handful", version)
"""


@pytest.fixture
def two_versions(place: Any, make_bundle: Any, tmp_path: Path) -> Any:
    found = type(place)(tmp_path)
    bundles = [make_bundle(tmp_path / f"head{seed}", head_seed=seed) for seed in (1, 2)]
    subprocess.run(
        [sys.executable, "-c", REGISTER, *bundles],
        cwd=tmp_path, env=found.environment, check=True,
    )  # fmt: skip
    return found


def test_the_page_s_rollback_returns_to_the_version_before(two_versions: Any, program: Any) -> None:
    """The page's commands put the version before in place, and show that it answers."""
    program("curl", "apt-get install curl")
    (section,) = re.findall(r"^### Roll back a model\n(.*?)^### ", PAGE, re.MULTILINE | re.DOTALL)
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    place = two_versions
    with place.serve("models:/handful@champion") as url:
        block = block.replace("http://127.0.0.1:8000", url)
        block = block.replace(
            "http://127.0.0.1:5000", place.environment["MLFLOW_TRACKING_URI"]
        ).replace("sleep 10", "sleep 5")
        done = subprocess.run(
            ["sh", "-eu", "-c", block],
            cwd=place.root,
            env=place.environment
            | {"PATH": f"{Path(sys.executable).parent}:{place.environment['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "version: 1" in done.stdout  # of handful-train
    assert '"version":"1"' in done.stdout  # of /model
    assert re.search(r'^handful_model_info\{.*version="1"\} 1\.0$', done.stdout, re.MULTILINE)
    assert "handful_model_behind 0.0" in done.stdout
    assert "handful_swap_failures_total 0.0" in done.stdout
