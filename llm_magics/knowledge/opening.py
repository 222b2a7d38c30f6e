"""Opening a model of sentence-transformers: without its lines in the notebook, and with errors of one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import MissingPackageError, ModelNotFoundError
from ..quiet import quiet


@contextlib.contextmanager
def opening(absent: ModelNotFoundError, *damaged: type[Exception]) -> Iterator[None]:
    """Import the library and open a model in this context.

    Args:
        absent: what is raised where there is no such model.
        damaged: what a model raises, beside errors of files and values, that is not what it should be.

    Raises:
        ModelNotFoundError: there is no such model.
        MissingPackageError: sentence-transformers is not installed.
    """
    kinds: tuple[type[Exception], ...] = (OSError, ValueError, *damaged)
    try:
        with quiet():
            yield
    except ImportError as error:
        raise MissingPackageError(error.name or "sentence_transformers", "embeddings") from error
    except kinds as error:
        raise absent from error
