"""The command line as a whole: its verbs, its errors, its exit.

A verb's file is imported when the verb is used, and gRPC and rich when a verb
needs them, so that `wsclean-ctl --help` is there at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from wsclean_client.cli import exits, remark
from wsclean_client.cli.options import example
from wsclean_client.cli.session import Session
from wsclean_client.errors import WSCleanError
from wsclean_workerd_api import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = (
    "status",
    "run",
    "submit",
    "list",
    "show",
    "logs",
    "wait",
    "cancel",
    "drain",
    "resume",
    "shutdown",
    "doctor",
    "version",
    "install",
    "uninstall",
)
"""The verbs, in the order in which the help lists them."""


_PACKAGE = __name__.rpartition(".")[0]
_TRACE = "WSCLEAN_CTL_TRACE"
"""The environment variable that has the traceback of a fault shown."""

_EXAMPLE = "wsclean-ctl run wsclean -size 512 512 -scale 2asec -name img sim.ms"


class Verbs(click.Group):
    """A group whose commands are modules of this package, imported when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Name the verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a verb."""
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"{_PACKAGE}.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 - what a verb's file is for
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; what goes wrong becomes one line and an exit status."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except WSCleanError as error:
            remark.complain(str(error))
            ctx.exit(exits.DAEMON)
        except BrokenPipeError:
            _abandon_stdout()
            ctx.exit(exits.PIPE_CLOSED)
        except KeyboardInterrupt:
            ctx.exit(exits.INTERRUPTED)
        except OSError as error:
            remark.complain(str(error))
            ctx.exit(exits.DAEMON)
        ctx.exit(status or 0)


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"{example(_EXAMPLE)}\n\n{exits.HELP}",
)
@click.option(
    "--socket",
    metavar="PATH",
    help="The daemon's socket. Default: $WSCLEAN_WORKERD_SOCKET, else "
    "/run/wsclean-workerd/workerd.sock.",
)
@click.version_option(__version__, prog_name=remark.NAME, message="%(prog)s %(version)s")
@click.pass_context
def ctl(context: click.Context, socket: str | None) -> None:
    """Run WSClean through the daemon of this host, and see what it does."""
    context.obj = Session(socket)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        args: The arguments after the program's name. None: those of the process.
    """
    # gRPC reports a daemon that restarts on standard error, which here belongs to
    # the job. It reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        status = ctl.main(args, prog_name=remark.NAME, standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else remark.NAME
        remark.complain(f"{_as_clause(error.format_message())} (see `{path} --help`)")
        status = exits.USAGE
    except click.ClickException as error:
        remark.complain(error.format_message())
        status = exits.USAGE
    except click.Abort:
        status = exits.INTERRUPTED
    except Exception as error:
        if os.environ.get(_TRACE):
            raise
        fault = f"{type(error).__name__}: {error}".rstrip(": ")
        remark.complain(
            f"cannot go on because of a fault in wsclean-ctl: {fault}. Report it with "
            f"what {_TRACE}=1 shows"
        )
        status = exits.DAEMON
    sys.exit(status or 0)


def _as_clause(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _abandon_stdout() -> None:
    # What is still in the buffer would raise again when the interpreter ends.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
