"""The command `handful`: `embed` or `classify` any number of files, by a service or a bundle.

Exit status: 0 done (also when some files failed: the output says which), 1 failure, 2 bad usage
or input. A failure is one line on standard error that names the remedy, and leaves no output.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn

from handful_client.async_client import AsyncHandful
from handful_client.batches import BATCH_SIZE
from handful_client.command.files import SUFFIXES
from handful_client.command.run import Job, run
from handful_client.errors import HandfulError, InputError
from handful_client.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    try:
        given = _parser().parse_args(arguments)
        return asyncio.run(_stoppable(_run(given)))
    except InputError as error:
        return _complain(2, str(error))
    except HandfulError as error:
        return _complain(1, str(error))
    except BrokenPipeError:  # `handful … | head`: who reads has enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # for the flush at exit
        return 1
    except OSError as error:
        return _complain(1, f"the output cannot be written: {error}; free some room and try again")
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _complain(1, "stopped; no output file was written, run it again")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="handful",
        description="Embed or classify images.",
        epilog="HANDFUL_API_KEY is sent where it is set. Exit status: 0 done, 1 failure, "
        "2 bad usage or input.",
    )
    parser.add_argument("--version", action="version", version=f"handful-client {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="embed|classify", required=True)
    embed = verbs.add_parser("embed", help="images → embeddings", description="Embed images.")
    classify = verbs.add_parser("classify", help="images → labels", description="Classify images.")
    for verb in (embed, classify):
        verb.add_argument(
            "files",
            nargs="+",
            metavar="FILES",
            help=f"images, or folders, which are searched to their leaves for {_kinds()}",
        )
        place = verb.add_mutually_exclusive_group()
        place.add_argument(
            "--url", help="of a service; default: HANDFUL_URL, else http://127.0.0.1:8000"
        )
        place.add_argument(
            "--bundle", metavar="DIR", help="a bundle's folder: no service is needed"
        )
        forms = "OUT.parquet, OUT.csv" + (", OUT.npy" if verb is embed else "")
        verb.add_argument(
            "-o", "--output", help=f"{forms}, or - for CSV on standard output (the default)"
        )
        verb.add_argument(
            "--json",
            action="store_true",
            help="print one JSON object, and nothing else, on standard output; without -o it "
            "holds the results, too",
        )
        verb.add_argument(
            "--batch-size",
            type=_positive,
            default=BATCH_SIZE,
            help="images a request (%(default)s)",
        )
        verb.add_argument(
            "--timeout", type=float, default=30.0, help="seconds for one request (%(default)s)"
        )
    embed.add_argument(
        "--space", choices=["latent"], help="the mean of q(z|x) instead of the embedding"
    )
    return parser


async def _run(given: argparse.Namespace) -> int:
    # The awaiting client: its requests in flight end at once when the command is stopped.
    if given.bundle is not None:
        client = AsyncHandful.local(given.bundle)
    else:
        client = AsyncHandful(given.url, timeout=given.timeout)
    async with client:
        return await run(_job(given), client)


def _job(given: argparse.Namespace) -> Job:
    return Job(
        verb=given.verb,
        named=given.files,
        output=given.output,
        as_json=given.json,
        space=getattr(given, "space", None),
        batch_size=given.batch_size,
    )


def _kinds() -> str:
    return " ".join(sorted(SUFFIXES))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


async def _stoppable(work: Coroutine[Any, Any, int]) -> int:
    """Let SIGTERM stop the work as Ctrl-C does, so that temporary files are removed."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    # Not by raising SIGINT: a shell lets its background jobs ignore that one. Nor by raising an
    # exception here: one that arrives inside a destructor is printed and forgotten.
    def stop(number: int, frame: Any) -> None:  # noqa: ARG001  # the handler's signature
        loop.call_soon_threadsafe(task.cancel)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread, where no signal arrives
        return await work
    try:
        return await work
    finally:
        signal.signal(signal.SIGTERM, before)


def _complain(status: int, message: str) -> int:
    line = (
        message.encode("unicode_escape").decode("ascii") if not message.isprintable() else message
    )
    sys.stderr.write(f"handful: {line}\n")
    return status
