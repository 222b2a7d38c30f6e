"""Prompt builders and answer readers: pure functions from values to messages, and from text to values.

Nothing here knows a model, a notebook or a third-party library.
"""
