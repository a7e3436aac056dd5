"""The `topwork` command: its sub-commands, and how errors are said."""

from __future__ import annotations

import io
import logging
import os
import sys

import click

from topwork.cli.backbones import backbones
from topwork.cli.cache import cache
from topwork.cli.check import check
from topwork.cli.compare import compare
from topwork.cli.evaluate import evaluate
from topwork.cli.explain import explain
from topwork.cli.export import export
from topwork.cli.extract import extract
from topwork.cli.info import info
from topwork.cli.label import label
from topwork.cli.learning_curve import learning_curve
from topwork.cli.predict import predict
from topwork.cli.serve import serve
from topwork.cli.train import train
from topwork.cli.words import say, with_flags
from topwork.errors import TopworkError, not_installed
from topwork.version import VERSION


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n"
    "  topwork train digits                          # a first try, without downloads\n"
    "  topwork train photos/                         # a folder with a sub-folder per class\n"
    "  topwork predict runs/photos-1 new/*.jpg\n"
    "  topwork evaluate runs/photos-1 other-photos/\n",
)
@click.version_option(VERSION, prog_name="topwork")
def main() -> None:
    """Put a new top on a proven network: train, test and use an image classifier on frozen features."""


for _command in (
    *(label, train, predict, export, serve, evaluate, explain, info),
    *(check, learning_curve, compare, extract, backbones, cache),
):
    main.add_command(_command)


def run() -> None:
    """Run the command line; errors become one message and an exit status, never a traceback."""
    _open_standard_files()
    logging.getLogger("topwork").handlers[:] = [_warnings()]
    try:
        sys.exit(main(standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TopworkError as error:
        say(with_flags(f"Error: {error}"), err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        say(f"Error: {not_installed(error)}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, click.exceptions.Abort):
        say(
            "\nInterrupted. The features computed so far are kept, and the answers of `predict --out`: run the same"
            " command again, and it goes on there.",
            err=True,
        )
        sys.exit(130)
    except BrokenPipeError:  # `topwork … | head` closed our output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError:
        say("Error: out of memory. Use --pooling avg, a smaller --size, or fewer images.", err=True)
        sys.exit(1)
    except OSError as error:
        place = "" if error.filename is None else f": {error.filename!r}"
        say(f"Error: {error.strerror or error}{place}. What was finished before is kept.", err=True)
        sys.exit(1)


def _open_standard_files() -> None:
    """Let standard files that were closed when we were started lead nowhere, lest a file of ours take their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (open as long as the process is)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names may hold what its encoding has not, such as Latin-1


def _warnings() -> logging.Handler:
    """What the library logs, such as damage in its cache, as a line on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("Warning: %(message)s"))
    return handler
