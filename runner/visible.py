"""Texts of models, data sets and people as a terminal or a page may show them: what these would obey becomes a character to see.

A terminal obeys escape sequences, both turn text around at a bidirectional override, and HTML drops a NUL. Source of the
last: Boucher and Anderson 2021, "Trojan Source", arXiv 2111.00169, which lists the overrides and isolates.
"""

from __future__ import annotations

import re

# C0 but tab and line feed, DEL and C1; embeddings, overrides and isolates; surrogates, which no UTF-8 holds. A carriage
# return before a line feed ends a line as the line feed alone does.
_OBEYED = re.compile(
    "\r(?=\n)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Unicode has a picture of every C0 character, from U+2400 on, and one of DEL.
_PICTURES = {**{chr(code): chr(0x2400 + code) for code in range(0x20)}, "\x7f": "\N{SYMBOL FOR DELETE}"}  # fmt: skip


def visible_text(text: str) -> str:
    """The text with a picture for each character that would be obeyed: ␛ for ESC, � where Unicode has none."""
    return _OBEYED.sub(_picture, text)


def visible_json(text: str) -> str:
    """JSON that says the same, with each character that would be obeyed written as its number; line ends stay."""
    return _OBEYED.sub(lambda found: "".join(f"\\u{ord(one):04x}" for one in found.group()), text)


def _picture(found: re.Match[str]) -> str:
    if found.string.startswith("\r\n", found.start()):
        return ""
    return _PICTURES.get(found.group(), "\N{REPLACEMENT CHARACTER}")
