"""`make bench`: every figure of docs/benchmarks.md, or those that are named.

make bench ARGS="pretraining reading answers memory accuracy"
"""

import argparse
import importlib
import platform

from handful_bundle.session import cpu_quota

NAMES = ("pretraining", "reading", "answers", "memory", "accuracy")


def main() -> None:
    """Run the benches that are named, all by default, each in the order of the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    names = parser.parse_args().names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no bench {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    print(f"{platform.machine()}, {cpu_quota()} CPUs, Python {platform.python_version()}\n")
    for name in names:
        print(f"## {name}\n", flush=True)
        # Imported when its turn comes: reading processes import this module again, without torch.
        importlib.import_module(f"bench_{name}").main()
        print(flush=True)


if __name__ == "__main__":
    main()
