"""The key of an endpoint: read from the environment, sent, and never written anywhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from kpod.runner import StageError

_DEFAULT_ENV = "OPENAI_API_KEY"
_OPENAI_HOST = "api.openai.com"


class Key(NamedTuple):
    """What requests are signed with.

    Args:
        value: the key; None: no key is sent.
        env: the variable that it stands in, or would.
    """

    value: str | None
    env: str

    def __repr__(self) -> str:
        """Without the value, so that no log holds it."""
        return f"Key(env={self.env!r})"


def read_key(urls: Sequence[str], api_key_env: str | None) -> Key:
    """The key that the environment holds.

    Without a name it is OPENAI_API_KEY where that is set and every URL is encrypted, else none: over an open line a key
    goes only where the recipe names it.

    Raises:
        StageError: the variable that is named is not set or is empty; or OpenAI itself would be asked without a key.
    """
    name = api_key_env or _DEFAULT_ENV
    value = os.environ.get(name, "").strip() or None
    if value is None and (api_key_env is not None or _asks_openai(urls)):
        raise StageError(
            f"the environment variable {name} is not set, and it holds the endpoint's key\n"
            f"export {name}=…, or name another variable in with.api_key_env"
        )
    is_encrypted = all(urlsplit(url).scheme == "https" for url in urls)
    return Key(value if api_key_env is not None or is_encrypted else None, name)


def _asks_openai(urls: Sequence[str]) -> bool:
    return any(urlsplit(url).hostname == _OPENAI_HOST for url in urls)
