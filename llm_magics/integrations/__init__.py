"""LangChain both ways: a session's model and knowledge bases in chains, and LangChain's stores in a session.

A module of this folder is imported when its first object is asked for, and imports LangChain at its top.
"""
