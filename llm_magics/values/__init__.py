"""The values that pass between the parts, a module for each theme: what goes in, and what comes out.

All are frozen, or streams that are iterated once. None knows who makes it or who shows it.
"""
