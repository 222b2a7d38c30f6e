"""``NAME@http://host:8000/v1``: a model on a server, and the key that the server may want."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import InputError

KEY = "LLM_MAGICS_API_KEY"
"""The environment variable that holds the key of a server."""
_OPENAI_KEY, _OPENAI_HOST = "OPENAI_API_KEY", "api.openai.com"
_FORM = re.compile(r"(?P<model>.*?)@(?P<url>https?://.*)", re.DOTALL | re.IGNORECASE)
_EXAMPLE = "Type it as NAME@http://host:8000/v1"


@dataclass(frozen=True, slots=True)
class Address:
    """A model on a server.

    Attributes:
        model: its id there; may be empty.
        url: where the server's API begins, without a slash at the end.
    """

    model: str
    url: str

    @property
    def host(self) -> str:
        """Host and port, as a person names the server."""
        return urlsplit(self.url).netloc

    @property
    def root(self) -> str:
        """Where a server keeps what is not part of the API that all of them have."""
        return self.url.removesuffix("/v1")

    @property
    def name(self) -> str:
        """What to call the model where the person gives no name."""
        return self.model.rstrip("/").rpartition("/")[2].removesuffix(".gguf").lower()

    def __str__(self) -> str:
        return f"{self.model}@{self.url}"


def is_address(text: str) -> bool:
    """Whether a text has the form ``NAME@http://...``."""
    return _FORM.fullmatch(text) is not None


def parse(text: str) -> Address:
    """Read ``NAME@http://host:8000/v1``; without a path, ``/v1`` is meant.

    Args:
        text: what was typed.

    Raises:
        InputError: it has another form, or holds a key. The error does not repeat the address then.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise InputError(f"{text} is no model on a server", _EXAMPLE)
    try:
        parts = urlsplit(found["url"])
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InputError("the address after @ cannot be read", _EXAMPLE) from None
    if parts.username is not None or parts.query or parts.fragment:
        what = "a user or a key" if parts.username is not None else "? or #"
        raise InputError(f"the address has {what} in it, and whoever sees the notebook would too", f"Set {KEY} instead")
    if not host or any(letter.isspace() for letter in found["url"]):
        raise InputError("the address after @ has no host", _EXAMPLE)
    netloc = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/") or "/v1"
    return Address(found["model"].strip(), f"{parts.scheme}://{netloc}{f':{port}' if port else ''}{path}")


def key_for(address: Address) -> str:
    """The key to send: from the environment, else from the keyring where that package is installed; may be empty.

    OpenAI's own variable is read for OpenAI's own host alone: no other server is sent that key.
    """
    names = (KEY, _OPENAI_KEY) if urlsplit(address.url).hostname == _OPENAI_HOST else (KEY,)
    key = next((os.environ[name].strip() for name in names if os.environ.get(name, "").strip()), "")
    return key or _from_keyring(address.host)


def _from_keyring(host: str) -> str:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return ""
    try:
        return (keyring.get_password("llm_magics", host) or "").strip()
    except (KeyringError, RuntimeError):  # no keyring on this machine, or a locked one
        return ""
