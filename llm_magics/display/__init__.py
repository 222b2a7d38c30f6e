"""What a person sees, as cards in a notebook and as text in a terminal: answers, passages, prompts, tables, indexing.

ipywidgets are loaded with the first answer shown in a notebook.
"""
