"""Damage files for as long as you like, guided by the lines of our code that each one reaches.

    python tests/fuzz/coverage_guided.py [--seconds 600] [--corpus DIR] [images] [npy] [multipart]

`make fuzz-long` installs atheris (libFuzzer) and runs it. What reaches something new is kept in DIR
(build/fuzz by default), and the next run goes on from there; what fails is kept there too, and the
status is 1.
"""

import argparse
import random
import re
import subprocess
import sys
import warnings
from pathlib import Path

LONGEST = 20_000  # bytes of a file
HANG_SECONDS = 20
MEBIBYTES = 2048
_INSTRUMENTED = ["handful_bundle", "handful_service", "python_multipart", "PIL", "numpy.lib"]


def attack(name: str, flags: list[str]) -> None:
    """Hand one subject to libFuzzer, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from subjects import SUBJECTS

    subject = SUBJECTS[name]
    files = subject.files()
    warnings.simplefilter("error")

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        dice = random.Random(seed)
        if not data or dice.random() < 0.5:
            return atheris.Mutate(data, longest)
        return subject.damage(data, dice.choice(files), dice)[:longest]

    atheris.Setup([sys.argv[0], *flags], subject.judge, custom_mutator=mutate)
    atheris.Fuzz()


def run(name: str, seconds: int, folder: Path) -> bool:
    """Attack one subject in a child process, and say what came of it.

    Returns:
        Whether all was well.
    """
    corpus, findings = folder / name, folder / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    from subjects import SUBJECTS

    for number, data in enumerate(SUBJECTS[name].files()):
        (corpus / f"seed-{number}").write_bytes(data)
    known = set(findings.iterdir())
    flags = [
        f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={HANG_SECONDS}",
        f"-rss_limit_mb={MEBIBYTES}", f"-artifact_prefix={findings}/{name}-",
        "-print_final_stats=1", str(corpus),
    ]  # fmt: skip
    command = [sys.executable, __file__, "--child", name, *flags]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    told = done.stdout + done.stderr
    executed = re.findall(r"stat::number_of_executed_units: (\d+)", told)
    features = re.findall(r"\bcov: (\d+)", told)
    found = sorted(set(findings.iterdir()) - known)
    if not executed or done.returncode or found:
        print(told[-6000:])
        print(f"{name}: status {done.returncode}; kept: {', '.join(map(str, found)) or 'nothing'}")
        return False
    print(
        f"0 failures in {executed[-1]} executions of {name} in {seconds} s; "
        f"{features[-1]} branches reached, {len(list(corpus.iterdir()))} files kept in {corpus}"
    )
    return True


def main() -> None:
    """Attack each subject for its share of the time."""
    if sys.argv[1:2] == ["--child"]:
        attack(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for all subjects together")
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"))
    parser.add_argument("names", nargs="*", default=["images", "npy", "multipart"])
    asked = parser.parse_args()
    share = max(1, asked.seconds // len(asked.names))
    well = [run(name, share, asked.corpus) for name in asked.names]
    sys.exit(0 if all(well) else 1)


if __name__ == "__main__":
    main()
