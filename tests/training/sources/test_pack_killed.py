"""Packing as a program of its own, which is killed or whose helpers are."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_training.packs.pack import pack_source
from handful_training.sources.source import open_source

SPEC = ImageSpec(height=24, width=32, channels=3)

# Sources are anything that keeps the promises of `Source`: this one reads slowly, notes each read,
# and dies of certain files, as a fault in a decoder's native code would make it.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from handful_bundle.manifest import ImageSpec
from handful_training.sources.folder import FileSource
from handful_training.packs.pack import pack_source

SPEC = ImageSpec(height=24, width=32, channels=3)

class Odd(FileSource):
    def read(self, i):
        time.sleep(float(sys.argv[3]))
        with open("reads.log", "ab") as log:
            log.write(b".")
        data = super().read(i)
        if data.startswith(b"KILL"):
            os.kill(os.getpid(), signal.SIGKILL)
        return data

if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    pack = pack_source(Odd.scan(Path(sys.argv[1])), SPEC, Path(sys.argv[2]), workers=2)
    print(len(pack), pack.content_digest, *(f"{e.key}:{e.code}" for e in pack.rejected), sep="\\n")
"""


@pytest.fixture
def folder(tmp_path: Path, make_photos: Callable[..., Path]) -> Path:
    return make_photos(tmp_path / "photos", 300)


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that comes true, or else for the test's own limit."""
    while not condition():
        time.sleep(0.01)


def check(folder: Path, work: Path) -> None:
    """Pack `folder` and compare with decoding each file."""
    pack = pack_source(open_source(folder), SPEC, work, workers=2)
    assert len(pack) == 300
    for key, pixels in zip(pack.keys, pack.images, strict=True):
        assert np.array_equal(pixels, decode((folder / key).read_bytes(), SPEC))


def test_a_run_that_is_killed_leaves_no_pack(folder: Path, tmp_path: Path, script: Callable):
    """After kill -9 no helper lives on, no folder passes for a pack, and the next run is right."""
    work = tmp_path / "work"
    run = script(PROGRAM, folder, work, 0.02)
    until(lambda: (tmp_path / "reads.log").exists() and len(list(work.glob("packs/*.partial"))))
    helpers = psutil.Process(run.pid).children(recursive=True)
    assert helpers
    run.kill()
    run.communicate()
    assert not list(work.glob("packs/*/pack.json"))
    assert list(work.glob("packs/*.partial"))
    _, alive = psutil.wait_procs(helpers, timeout=30)
    assert not alive
    check(folder, work)
    assert not list(work.glob("packs/*.partial"))


def test_ctrl_c_cleans_up(folder: Path, tmp_path: Path, script: Callable):
    """An interrupted run takes its helpers and its half-written pack with it."""
    run = script(PROGRAM, folder, tmp_path / "work", 0.02)
    until((tmp_path / "reads.log").exists)
    helpers = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGINT)
    run.communicate()
    assert run.returncode != 0
    assert not [path for path in (tmp_path / "work" / "packs").iterdir() if path.is_dir()]
    _, alive = psutil.wait_procs(helpers, timeout=30)
    assert not alive


def test_leftovers_of_other_packs_are_removed(folder: Path, tmp_path: Path, script: Callable):
    """What a killed run left goes even when the images have changed since."""
    work = tmp_path / "work"
    run = script(PROGRAM, folder, work, 0.02)
    until((tmp_path / "reads.log").exists)
    run.kill()
    run.communicate()
    (leftover,) = work.glob("packs/*.partial")
    (folder / "0000.jpg").touch()
    check(folder, work)
    assert not leftover.exists()


def test_a_helper_that_is_killed_costs_nothing(folder: Path, tmp_path: Path, script: Callable):
    """A process that dies by no image's fault loses no image."""
    run = script(PROGRAM, folder, tmp_path / "work", 0.01)
    until((tmp_path / "reads.log").exists)
    helpers = [
        process
        for process in psutil.Process(run.pid).children(recursive=True)
        if not process.children() and "resource_tracker" not in " ".join(process.cmdline())
    ]
    helpers[-1].kill()
    out, err = run.communicate()
    assert run.returncode == 0, err
    assert out.split()[0] == "300"
    check(folder, tmp_path / "work")


def test_only_the_image_that_kills_is_rejected(folder: Path, tmp_path: Path, script: Callable):
    """Two images crash their decoder: they are `decoder_crashed`, the 300 others are read."""
    for name in ("0100k.jpg", "0200k.png"):
        (folder / name).write_bytes(b"KILL")
    run = script(PROGRAM, folder, tmp_path / "work", 0)
    out, err = run.communicate()
    assert run.returncode == 0, err
    assert out.split()[0] == "300"
    assert out.split()[2:] == ["0100k.jpg:decoder_crashed", "0200k.png:decoder_crashed"]


def test_two_runs_at_once_read_once(folder: Path, tmp_path: Path, script: Callable):
    """The second waits for the first, then uses its pack: every image is read once in all."""
    runs = [script(PROGRAM, folder, tmp_path / "work", 0.002) for _ in range(2)]
    results = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert (tmp_path / "reads.log").stat().st_size == 300


def test_a_disk_without_room_is_said_before_reading(folder: Path, tmp_path: Path, script: Callable):
    """The space is reserved first: no image is read in vain, and nothing is left behind."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, 2**18))"
    run = script(limit + PROGRAM, folder, tmp_path / "work", 0)
    _, err = run.communicate()
    assert run.returncode != 0
    assert "make room there or set HANDFUL_WORK" in err
    assert not (tmp_path / "reads.log").exists()
    assert not [path for path in (tmp_path / "work" / "packs").iterdir() if path.is_dir()]


def test_a_script_without_the_guard_ends(folder: Path, tmp_path: Path, script: Callable):
    """Helpers import the script; one that would start all over is told what it lacks."""
    run = script(
        PROGRAM.replace('if __name__ == "__main__":', "if True:"), folder, tmp_path / "w", 0
    )
    _, err = run.communicate()
    assert run.returncode != 0
    assert 'under `if __name__ == "__main__":`' in err
