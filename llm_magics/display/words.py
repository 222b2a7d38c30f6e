"""Figures in words: how many, how fast, how long."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 source``, ``4,509 sources``.

    Args:
        number: how many.
        noun: what, in the singular; its plural ends in s.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rate(speed: float) -> str:
    """``1,200``, ``47``, ``3.1``.

    Args:
        speed: how many a second.
    """
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"


def duration(seconds: float) -> str:
    """``12 s``, ``3 min``, ``1 h 5 min``.

    Args:
        seconds: from a minute and a half on told in whole minutes; never as nothing.
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
