"""`make bench`: every figure of docs/benchmarks.md, or those that are named.

make bench ARGS="pretraining reading answers serving footprint memory accuracy clusters novelty"

Options behind a single name go to that bench: make bench ARGS="likelihood --minutes 5"
"""

import argparse
import importlib
import platform
import sys

from handful_bundle.session import cpu_quota

NAMES = (
    "pretraining",
    "reading",
    "answers",
    "serving",
    "footprint",
    "memory",
    "accuracy",
    "clusters",
    "likelihood",
    "heads",
    "suggest",
    "novelty",
    "conformal",
)
ON_REQUEST = ("gpu-serving",)  # needs what few machines have


def main() -> None:
    """Run the benches that are named, all by default, each in the order of the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*NAMES, *ON_REQUEST)))
    words = sys.argv[1:]
    # A bench's own options start where the names end; before any name they are this parser's.
    end = next((i for i, word in enumerate(words) if i and word.startswith("-")), len(words))
    names, options = parser.parse_args(words[:end]).names or NAMES, words[end:]
    known = (*NAMES, *ON_REQUEST)
    if unknown := set(names) - set(known):
        parser.error(f"no bench {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if options and len(names) > 1:
        parser.error(f"{' '.join(options)}: name the one bench that these options are for")
    print(f"{platform.machine()}, {cpu_quota()} CPUs, Python {platform.python_version()}\n")
    for name in names:
        print(f"## {name}\n", flush=True)
        # Imported when its turn comes: reading processes import this module again, without torch.
        bench = importlib.import_module(f"bench_{name.replace('-', '_')}")
        bench.main(options) if options else bench.main()
        print(flush=True)


if __name__ == "__main__":
    main()
