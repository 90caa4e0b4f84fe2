"""What `install` and `uninstall` have in common: the daemon's own program does them.

The files that they put in place are the daemon's, and the client does not import it. Where
there is no daemon, because only the client was installed, the program says so.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., object]], Callable[..., object]]

_PROGRAM = "wsclean_workerd.install"

dry_run_option: Decorator = click.option(
    "--dry-run", is_flag=True, help="Say what would be done, and do nothing."
)
root_option: Decorator = click.option(
    "--root",
    metavar="DIR",
    default="/",
    help="A folder that is going to be the root of a host, instead of this one.",
)
instance_option: Decorator = click.option(
    "--instance", metavar="NAME", help="A further daemon, wsclean-workerd@NAME, with its own."
)


def call_daemon(verb: str, *, root: str, instance: str | None, **flags: bool) -> int:
    """Run the daemon's program for a verb.

    Args:
        verb: The verb.
        root: The root of the host.
        instance: The name of an instance, or None.
        flags: The other options, by name.

    Returns:
        The exit status.
    """
    words = [verb, f"--root={root}"]
    if instance is not None:
        words.append(f"--instance={instance}")
    words += [f"--{name.replace('_', '-')}" for name, given in flags.items() if given]
    # Safe path: what lies in the working directory is not imported.
    return subprocess.run([sys.executable, "-P", "-m", _PROGRAM, *words], check=False).returncode  # noqa: S603
