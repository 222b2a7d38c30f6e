"""Where what is shown goes: to a notebook's page as a card, to a terminal as text."""

from __future__ import annotations

import sys
from typing import Any


def in_terminal(shell: Any) -> bool:
    """Whether what is shown is printed: the shell has no kernel, so there is no page.

    Args:
        shell: the IPython shell.
    """
    return getattr(shell, "kernel", None) is None


def show_bundle(bundle: dict[str, str], *, shell: Any) -> None:
    """Show a finished card, or its text in a terminal.

    Args:
        bundle: HTML and plain text.
        shell: the IPython shell.
    """
    if in_terminal(shell):
        write(bundle["text/plain"] + "\n")
    else:
        shell.display_pub.publish(bundle, {})


def write(text: str) -> None:
    """Write a text to the terminal; what its encoding lacks is written as escapes.

    Args:
        text: of printable characters and line ends.
    """
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
