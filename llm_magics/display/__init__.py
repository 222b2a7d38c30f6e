"""What a person sees, as cards in a notebook and as text in a terminal: answers, passages, prompts, tables, indexing.

Importing this package loads no ipywidgets; they are loaded with the first answer shown in a notebook.
"""

from __future__ import annotations

from .answer import show_answer
from .formatters import register, unregister
from .indexing import show_indexing
from .passages import show_passages
from .prompt import show_prompt
from .tables import show_table

__all__ = ["register", "show_answer", "show_indexing", "show_passages", "show_prompt", "show_table", "unregister"]
