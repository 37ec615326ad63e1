"""What a recipe may say about where and what to send: no key, no password, no field that is a setting of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from kpod.runner import SettingError

# Fields of a request that other settings fill.
_OURS = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "seed", "stop", "stream"}
)  # fmt: skip
_KEY_LIKE = re.compile(r"\bsk-[\w-]{8,}")
_NEVER_SHOWN = "keys stand in the environment only; with.api_key_env names the variable"


def check_url(url: str) -> None:
    """A base URL is http or https, names a server, and holds nothing secret."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingError(
            "urls", f"got '{url}', which is no URL of a server", hint="write https://… or http://…"
        )
    if "@" in parts.netloc or _KEY_LIKE.search(url):
        raise SettingError(
            "urls", f"the URL of {parts.hostname} holds a key or a password", hint=_NEVER_SHOWN
        )
    if parts.query or parts.fragment:
        raise SettingError(
            "urls",
            f"got '{url}', which goes on after the path",
            hint="write the part that ends before /chat/completions",
        )


def check_extra(extra: Mapping[str, object], *, has_thinking: bool) -> None:
    """Extra fields repeat no setting of ours and hold no key."""
    for name, value in extra.items():
        if name in _OURS:
            raise SettingError(
                "extra_body", f"holds '{name}', which is a setting of its own", hint="take it out"
            )
        if name == "chat_template_kwargs" and has_thinking:
            raise SettingError(
                "extra_body",
                "holds 'chat_template_kwargs' beside with.thinking",
                hint="set one of them",
            )
        if isinstance(value, str) and _KEY_LIKE.search(value):
            raise SettingError("extra_body", f"'{name}' looks like a key", hint=_NEVER_SHOWN)
