"""The command line itself: entry point, errors, Ctrl-C.

Exit status: 0 done, 1 error, 2 usage, 3 done with constraints unmet.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

import mrlinac
from mrlinac.cli import console
from mrlinac.cli.show import escaped
from mrlinac.errors import NO_ROOM, MrlinacError, no_room

STOPPED = {
    "plan": "Nothing is half-written. The beams of the influence that were finished are kept in the cache (`mrlinac cache "
    "info`): the same command goes on from there",
    "recalculate": "Nothing is half-written and nothing of this dose is kept: the same command starts it again",
    "evaluate": "What --out named may be incomplete: the same command with --overwrite makes it anew",
    "report": "The report may be incomplete: the same command makes it anew",
    "import": "Nothing is half-written: the same command starts again",
    "phantom": "Nothing is half-written: the same command starts again",
}
"""What is kept, and how to continue, when a command is interrupted."""


STOPPED_STATUS = 130


class Commands(typer.core.TyperGroup):
    """The commands, with a message for those that are interrupted."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; typer itself would end without a message at Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _say_stopped(ctx.invoked_subcommand)
            raise typer.Exit(STOPPED_STATUS) from None


app = typer.Typer(
    name="mrlinac",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="An open MR-Linac planning simulator. For research; not a medical device.",
    epilog="Exit status: 0 done, 1 error, 2 wrong usage, 3 done with limits or goals unmet, 130 stopped by Ctrl-C.",
)


def main() -> None:
    """Entry point: turns what went wrong into one sentence and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a redirected stream of Windows cannot say ≤
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        app(prog_name="mrlinac")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = no_room(error, Path(error.filename or ".")) if error.errno in NO_ROOM else error.strerror or error
        console.err.print(f"[red]error:[/red] {escaped(f'{where}{reason}')}", highlight=False)
        sys.exit(1)
    except MrlinacError as error:
        console.err.print(f"[red]error:[/red] {escaped(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:  # before a command had begun
        _say_stopped(None)
        sys.exit(STOPPED_STATUS)


def _say_stopped(command: str | None) -> None:
    console.err.print(escaped(f"stopped. {STOPPED.get(command or '', 'Nothing was changed')}."), highlight=False)


def _say_version(wanted: bool) -> None:
    if wanted:
        console.out.print(f"mrlinac {mrlinac.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    """An open MR-Linac planning simulator. For research; not a medical device."""
