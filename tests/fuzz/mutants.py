"""Damage files by the hundred thousand and judge what comes out, in a process of its own: a decoder
that crashes or hangs takes nothing along.

    python tests/fuzz/mutants.py images|npy|multipart COUNT [SEED]

Ends with one line of JSON. Each mutant is made from its number alone, so that the one that ended
the process can be made again.
"""

import argparse
import json
import mmap
import random
import signal
import struct
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

from subjects import SUBJECTS, Subject

HANG_SECONDS = 2.0  # of processor time, so that a busy machine condemns nobody


def mutant(subject: Subject, files: list[bytes], seed: int, number: int) -> bytes:
    """Return the mutant of that number."""
    dice = random.Random(seed << 32 | number)
    return subject.damage(files[number % len(files)], dice.choice(files), dice)


def attack(name: str, count: int, seed: int, progress: mmap.mmap) -> dict[str, int]:
    """Judge `count` mutants; `progress` holds the number of the one that is being judged."""
    subject = SUBJECTS[name]
    files = subject.files()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, wherever it is
    outcomes: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(count):
            struct.pack_into("<Q", progress, 0, number)
            data = mutant(subject, files, seed, number)
            signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
            outcomes[subject.judge(data)] += 1
    signal.setitimer(signal.ITIMER_PROF, 0)
    return dict(outcomes)


def watched(name: str, count: int, seed: int, folder: Path) -> dict[str, int]:
    """Run `attack` in a child process.

    Raises:
        AssertionError: a mutant crashed it, hung, or had a result that its judge does not allow; it
            is kept in `folder`.
    """
    shared = folder / f"{name}.progress"
    shared.write_bytes(bytes(8))
    command = [sys.executable, __file__, name, str(count), str(seed), "--progress", str(shared)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        outcomes: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return outcomes
    (number,) = struct.unpack("<Q", shared.read_bytes())
    kept = folder / f"{name}-{seed}-{number}"
    kept.write_bytes(mutant(SUBJECTS[name], SUBJECTS[name].files(), seed, number))
    why = f"status {done.returncode}"
    if done.returncode < 0:
        why = signal.Signals(-done.returncode).name
        if why == "SIGPROF":
            why = f"more than {HANG_SECONDS:g} s"
    raise AssertionError(f"mutant {number} of {name} ({kept}): {why}\n{done.stderr[-4000:]}")


def main() -> None:
    """Attack, and print how often what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SUBJECTS)
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--progress", type=Path)
    asked = parser.parse_args()
    if asked.progress is None:
        progress = mmap.mmap(-1, 8)
    else:
        with asked.progress.open("r+b") as file:
            progress = mmap.mmap(file.fileno(), 8)
    started = time.process_time()
    outcomes = attack(asked.name, asked.count, asked.seed, progress)
    seconds = time.process_time() - started
    print(f"0 failures in {asked.count} mutants of {asked.name}, {seconds:.1f} s of processor time")
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
