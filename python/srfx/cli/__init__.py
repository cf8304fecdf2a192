"""The command line: the program ``srfx``, a file a command.

Exit codes: 0 success, 1 no convergence, 2 bad input (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, NoReturn

import click
import numpy as np

from srfx import _validation as check
from srfx.cli import explore, export, figure, info, merge, plot, scan, simulate, solve, spectrum
from srfx.cli.output import say
from srfx.config import version
from srfx.models import warnings_to
from srfx.results import ConvergenceError


@click.group(invoke_without_command=True)
@click.version_option(version(), prog_name="srfx", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Exact asymptotics of two-layer networks after one large gradient step."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _command in (solve, info, simulate, scan, merge, plot, export, spectrum, figure, explore):
    cli.add_command(_command.command)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@check.public
def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; every expected error is one line on stderr.

    The process may be somebody else's, and this one of its threads.
    """
    said = set()

    def show(message: str) -> None:
        if message not in said:
            said.add(message)
            say(f"warning: {message}")

    try:
        with warnings_to(show):
            code = cli.main(arguments, prog_name="srfx", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        say(f"error: {' '.join(error.format_message().split())}")
        return 2
    except (ConvergenceError, np.linalg.LinAlgError) as error:
        say(f"error: {_one_line(error)}")
        return 1
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        say(f"error: {_one_line(error)}")
        return 2
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return 130
    except OSError as error:
        say(f"error: {_one_line(error)}")
        return 2
    except MemoryError as error:
        say(f"error: out of memory; ask for fewer points. {_one_line(error)}".rstrip(". "))
        return 2


def main() -> NoReturn:
    """Entry point of the program ``srfx``, to which the process belongs."""
    # It draws to files alone; matplotlib does not even load if the backend named is not installed,
    # as that of a notebook in another environment.
    os.environ.pop("MPLBACKEND", None)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {message}")

    warnings.showwarning = show  # those of other packages, where Python's filters let them pass
    sys.exit(run())
