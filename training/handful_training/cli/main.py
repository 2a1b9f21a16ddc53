"""`handful-train`: its commands together, and what becomes of errors.

stdout carries results only; with `--json`, one JSON object as its last line and nothing else.
Exit status: 0 success, 1 failure, 2 bad usage or input, with one line on stderr for the remedy.
"""

import logging
import sys

import typer

from handful_bundle.errors import HandfulError
from handful_training import interrupts
from handful_training.cli import look, models, report, suggest, train
from handful_training.errors import InputError

app = typer.Typer(
    name="handful-train",
    help="Turn unlabelled images and a handful of labels into a registered classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(train.app)
app.add_typer(models.app)
app.add_typer(look.app)
app.add_typer(suggest.app)
app.add_typer(report.app)


def main() -> None:
    """Run the command line and exit with its status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatter in (
        "lightning_fabric",
        "mlflow",
        "alembic",
        "torch",
        "matplotlib",
        "onnxscript",
        "onnx_ir",
    ):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    try:
        with interrupts.raising():
            app()
    except InputError as error:
        sys.exit(_say(error, 2))
    except HandfulError as error:
        sys.exit(_say(error, 1))
    except interrupts.Interrupted as error:
        sys.exit(_say(error, error.status))


def _say(error: BaseException, status: int) -> int:
    print(f"handful-train: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 - stderr
    return status
