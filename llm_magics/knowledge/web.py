"""Fetching the page that a person names, and nothing else.

The page's server may send us on (a redirect); it must not send us to this machine or into the local
network, where things answer that trust whoever can reach them (server-side request forgery, OWASP).
"""

from __future__ import annotations

import ipaddress
import socket
import time
import urllib.request
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urljoin, urlsplit

from .. import __version__
from ..errors import InputError, KnowledgeError, MissingPackageError
from .base import shown

LARGEST = 50_000_000  # bytes
TIMEOUT = 20.0  # seconds for one step, and three times that for all of it
_HOPS = 5
_SUFFIXES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "application/pdf": ".pdf",
    "text/csv": ".csv",
    "text/markdown": ".md",
    "application/jsonl": ".jsonl",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
}


def fetch(address: str, *, private: bool = False, largest: int = LARGEST) -> tuple[bytes, str]:
    """Fetch one page.

    Args:
        address: http or https. The address itself may be a local one, since a person typed it.
        private: whether a redirect may lead to this machine or the local network.
        largest: bytes at which to give up.

    Returns:
        The body, and the suffix that says its format, such as ``.html``.

    Raises:
        InputError: another scheme, or no host.
        KnowledgeError: no answer, an error, too large, too slow, or a redirect that is refused.
        MissingPackageError: httpx is not installed.
    """
    try:
        import httpx
    except ImportError as error:
        raise MissingPackageError(error.name or "httpx", "rag") from error
    _check_scheme(address)
    here, first = address, urlsplit(address).hostname
    limit = time.monotonic() + 3 * TIMEOUT
    try:
        with httpx.Client(timeout=TIMEOUT, headers={"user-agent": f"llm_magics/{__version__}"}) as client:
            for _ in range(_HOPS + 1):
                free = private or urlsplit(here).hostname == first
                url, options = _request(here, free)
                with client.stream("GET", url, **options) as answer:
                    if not answer.has_redirect_location:
                        answer.raise_for_status()
                        return _body(answer, address, largest, limit), _suffix(answer, here)
                    here = urljoin(here, answer.headers["location"])
                    _check_scheme(here)
    except httpx.HTTPStatusError as error:
        raise KnowledgeError(
            f"{shown(address)} answered {error.response.status_code}", "Look at the address in a browser"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise KnowledgeError(f"{shown(address)} cannot be fetched: {shown(reason)}", "Try again, or save it") from error
    raise KnowledgeError(f"{shown(address)} redirects more than {_HOPS} times", "Name the last address")


def _check_scheme(address: str) -> None:
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise InputError(f"{shown(address)} is no web address", "It takes http:// or https://; a file goes by its path")


def _request(address: str, free: bool) -> tuple[str, dict[str, Any]]:
    """What to ask for. A redirect goes to the very number that was looked at: a second look-up could differ."""
    if free or urllib.request.getproxies().get(urlsplit(address).scheme):
        return address, {}
    import httpx

    url = httpx.URL(address)
    port = url.port or (443 if url.scheme == "https" else 80)
    numbers = [str(entry[4][0]) for entry in socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)]
    for number in numbers:
        if not ipaddress.ip_address(number.partition("%")[0]).is_global:
            raise KnowledgeError(
                f"a redirect to {shown(url.host)} was refused: it is on this machine or the local network",
                "Name that address itself if you trust it",
            )
    headers = {"host": url.netloc.decode("ascii")}
    return str(url.copy_with(host=numbers[0])), {"headers": headers, "extensions": {"sni_hostname": url.host}}


def _body(answer: Any, address: str, largest: int, limit: float) -> bytes:
    body = bytearray()
    for piece in answer.iter_bytes():
        body += piece
        if len(body) > largest:
            raise KnowledgeError(f"{shown(address)} is larger than {largest // 10**6} MB", "Save it and add the file")
        if time.monotonic() > limit:
            raise KnowledgeError(f"{shown(address)} took longer than {3 * TIMEOUT:g} s", "Save it and add the file")
    return bytes(body)


def _suffix(answer: Any, address: str) -> str:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return _SUFFIXES.get(kind) or PurePosixPath(urlsplit(address).path).suffix.lower()
