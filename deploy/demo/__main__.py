"""`python -m demo`: unlabelled images to a served classifier. Its last line is a JSON object."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from demo import fashion_mnist
from demo.cut import cut
from demo.stack import StackError
from demo.steps import Plan, run, say


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns 0, 1 when something failed, 2 without data."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    work = Path(os.environ.get("HANDFUL_WORK") or "handful-work")
    start = time.monotonic()
    try:
        data = fashion_mnist.find(
            work / "data" / "fashion-mnist", os.environ.get(fashion_mnist.VARIABLE)
        )
        folder = work / "demo"
        folder.mkdir(parents=True, exist_ok=True)
        data = cut(data, folder / "cut", images=options.images, test_images=options.test_images)
        say(f"{fashion_mnist.NAME} is in {data}")
        summary = run(Plan(data, folder, options.time_budget))
    except fashion_mnist.DataMissing as error:
        say(str(error))
        return 2
    except StackError as error:
        say(f"The demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted; everything is stopped.")
        return 130
    say(f"The plots are in {summary['plots']}; `make serve` serves the champion.")
    print(json.dumps({**summary, "seconds": round(time.monotonic() - start, 1)}), flush=True)
    return 1 if summary["failed_requests"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--images", type=int, help="train on the first so many (default: all)")
    parser.add_argument("--test-images", type=int, help="test on the first so many (default: all)")
    parser.add_argument("--time-budget", default="5m", help="of all optimisation (default: 5m)")
    return parser


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's interface
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
