"""`make bench`: every figure of docs/benchmarks.md, or those that are named.

make bench ARGS="pretraining answers memory accuracy"
"""

import argparse
import platform

import bench_accuracy
import bench_answers
import bench_memory
import bench_pretraining

from handful_bundle.session import cpu_quota

BENCHES = {
    "pretraining": bench_pretraining.main,
    "answers": bench_answers.main,
    "memory": bench_memory.main,
    "accuracy": bench_accuracy.main,
}


def main() -> None:
    """Run the benches that are named, all by default, each in the order of the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], default=[])
    names = parser.parse_args().names or list(BENCHES)
    print(f"{platform.machine()}, {cpu_quota()} CPUs, Python {platform.python_version()}\n")
    for name in names:
        print(f"## {name}\n", flush=True)
        BENCHES[name]()
        print(flush=True)


if __name__ == "__main__":
    main()
