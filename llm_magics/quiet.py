"""Keeps the libraries' warnings and progress bars out of the notebook, and puts things back."""

from __future__ import annotations

import contextlib
import logging as standard
import warnings
from collections.abc import Iterator

_LOGGERS = ("sentence_transformers", "bitsandbytes")  # bitsandbytes warns of a kernel that no model here asks for


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and progress bars of transformers, sentence-transformers and bitsandbytes, which they give
    while they are imported too; on leaving, everything is as it was."""
    from transformers.utils import logging

    loggers = [standard.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    for logger in loggers:
        logger.setLevel(standard.ERROR)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)
        if bars:
            logging.enable_progress_bar()
