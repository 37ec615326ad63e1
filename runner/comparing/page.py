"""A diff as one page that works offline: everything in it is escaped, and the one script that runs in it is its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner.errors import KpodError
from kpod.runner.visible import visible_text

if TYPE_CHECKING:
    from jinja2 import Template

    from kpod.runner.comparing.diff import Diff
    from kpod.runner.comparing.scores import Score
    from kpod.runner.seeds import Method

# Of a text; what is left out is told. 200 questions of each kind with two texts and what was taught stay below 3 MB.
_MOST_CHARACTERS, _TAIL = 1500, 300


def write_page(found: Diff, path: Path) -> None:
    """Write the page.

    Args:
        found: what differs.
        path: of the page; one that is there is replaced.

    Raises:
        KpodError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(page_text(found), encoding="utf-8", newline="\n")
        draft.replace(path)
    except OSError as error:
        raise KpodError(
            f"cannot write {path}: {error.strerror}\nname another place with --html FILE"
        ) from error


def page_text(found: Diff) -> str:
    """The page; the comparison that the recipe is about comes first."""
    from base64 import b64encode
    from hashlib import sha256

    script = _template("search.js.jinja").render()
    rows = sorted(
        zip(found.scores, found.methods, found.flips, strict=True),
        key=lambda row: not row[0].is_primary,
    )
    return _template("page.html.jinja").render(
        diff=found,
        first=_answer(*rows[0][:2]) if rows and (len(rows) == 1 or rows[0][0].is_primary) else None,
        rows=rows,
        script_digest=b64encode(sha256(script.encode()).digest()).decode(),
    )


class _Answer(NamedTuple):
    """What stands first: both claims of the one comparison that matters, without their figures."""

    arms: str
    students: str
    method: str


def _answer(score: Score, method: Method | str) -> _Answer:
    told = method if isinstance(method, str) else method.claim
    return _Answer(score.name, score.verdict, told)


@cache
def _template(name: str) -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from kpod.runner.comparing.words import word_pieces

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: visible_text(value) if type(value) is str else value,
    )  # fmt: skip
    environment.filters["shortened"] = _shortened
    environment.globals["word_pieces"] = word_pieces
    return environment.get_template(name)


def _shortened(text: str, most: int = _MOST_CHARACTERS) -> str:
    """The text, or its beginning and end with a word on how much is left out."""
    if len(text) <= most:
        return text
    tail = min(_TAIL, most // 4)
    head = text[: most - tail]
    return f"{head} [… {len(text) - most:,} characters left out …] {text[-tail:]}"
