from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from llm_magics.display.formatters import register, unregister


@pytest.fixture
def terminal() -> Iterator[InteractiveShell]:
    """A real shell without a kernel."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    register(shell)
    yield shell
    unregister(shell)
    InteractiveShell.clear_instance()


@pytest.fixture
def page(terminal: InteractiveShell) -> InteractiveShell:
    """A shell that has a kernel as far as the display can see; what it publishes is in ``page.display_pub.outputs``."""
    shell: Any = terminal
    shell.kernel = SimpleNamespace()
    shell.display_pub = CapturingDisplayPublisher()
    return terminal
