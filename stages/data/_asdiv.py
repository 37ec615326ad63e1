"""What data.asdiv does when it runs: finds the problems, reads one number from each answer, splits the list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.runner import Question, StageError
from kpod.stages._lm.numbers import parse_number
from kpod.stages._lm.rows import column, read_rows
from kpod.stages.data._asdiv_xml import read_problems
from kpod.stages.data._cells import answer_text
from kpod.stages.data._origin import folder_files, named_files
from kpod.stages.data._splits import Part, Placed, Split, held_out, id_rank

if TYPE_CHECKING:
    from kpod.runner import Context
    from kpod.stages.data.asdiv import Config

# As in the release and its repository; then what a hub copy or a table may be called.
_XML_PLACES = ("ASDiv.xml", "dataset/ASDiv.xml")
_WORDS: Mapping[Split, tuple[str, ...]] = {
    "train": (),
    "validation": (),
    "test": ("ASDiv", "asdiv", "validation"),
}
_PRECEDENCE: tuple[Split, ...] = ("test", "validation", "train")
_HAS_DIGIT = re.compile(r"[0-9]")
_UNIT = re.compile(r"\([^()]*\)")
# 9, 1,080, -2.5, .5, $3, 1/2, 2 1/2, 20%; what else has digits is more than one number.
_ONE_NUMBER = re.compile(
    r"[-−+]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:(?<=\d)(?: \d+)?/0*[1-9]\d*)?\s?%?", re.ASCII
)


class Problems:
    """Reads the problems, and remembers which were left out and why; a file may be read more than once."""

    def __init__(self) -> None:
        self._left_out: dict[str, str] = {}

    def parts(self, ctx: Context[Config]) -> list[Part]:
        """The problems of each file, or of the one list, in order of precedence."""
        config = ctx.config
        files = {split: [ctx.source(split)] for split in named_files(config)}
        if not files:
            return [self._split_list(_list_files(ctx), config)]
        share = 0.0 if "validation" in files else config.validation_frac
        return [
            Part(
                read=self._reader(files[split]),
                split_of=held_out(share) if split == "train" else _always(split),
            )
            for split in _PRECEDENCE
            if split in files
        ]

    def counts(self) -> dict[str, int]:
        """Problems that were left out, by what their answer is."""
        found = Counter(self._left_out.values())
        return {reason: found[reason] for reason in ("no_number", "several_numbers")}

    def _split_list(self, paths: Sequence[Path], config: Config) -> Part:
        """All problems of one list, the first ones by hash of the id to test, the next to validation."""
        read = self._reader(paths)
        ids = sorted(
            {placed.question.id for placed in read()}, key=lambda one: id_rank(one, purpose="split")
        )
        num_held = config.num_test + config.num_validation
        if num_held >= len(ids):
            raise StageError(
                f"{paths[0]}: got {len(ids)} questions, and 'num_validation' and 'num_test' ask for {num_held}\n"
                "  allowed: fewer than there are, so that some remain for train\n  lower one of the two"
            )
        splits: dict[str, Split] = dict.fromkeys(ids, "train")
        splits |= dict.fromkeys(ids[: config.num_test], "test")
        splits |= dict.fromkeys(ids[config.num_test : num_held], "validation")
        return Part(read=read, split_of=splits.__getitem__)

    def _reader(self, paths: Sequence[Path]) -> Callable[[], Iterator[Placed]]:
        def read() -> Iterator[Placed]:
            for path in paths:
                rows = read_problems(path) if path.suffix.lower() == ".xml" else read_rows(path)
                for number, row in rows:
                    where = f"{path}:{number}"
                    answer = str(column(row, "answer", where) or "")
                    if one_number(answer) is None:
                        has_digit = _HAS_DIGIT.search(_UNIT.sub("", answer))
                        self._left_out[where] = "several_numbers" if has_digit else "no_number"
                    else:
                        yield Placed(where, asdiv_question(row, where))

        return read


def asdiv_question(row: Mapping[str, Any], where: str) -> Question:
    """The question of a problem; body and question are joined by a space, since many bodies end in a comma.

    Args:
        row: body, question, answer, and formula where there is one, which stands as the set's own solution.
        where: file and line, for errors.

    Raises:
        StageError: the row lacks a column, has no text, or its answer is not one number.
    """
    cells = (str(column(row, name, where) or "").strip() for name in ("body", "question"))
    text = " ".join(cell for cell in cells if cell)
    if not text:
        raise StageError(
            f"{where}: got a problem without body and question\n  allowed: a text\n  mend or delete it"
        )
    answer = str(column(row, "answer", where) or "")
    number = one_number(answer)
    if number is None:
        raise StageError(
            f"{where}: got the answer {answer!r}\n  allowed: one number, units in brackets: 9 (apples)\n"
            "  leave the problem out"
        )
    formula = str(row.get("formula") or "").strip()
    return Question.make(
        text,
        kind="numeric",
        answer=answer_text(number, "numeric", where),
        split="train",
        source="asdiv",
        solution=formula or None,
    )


def one_number(answer: str) -> str | None:
    """The number of an answer without its unit: `9 (apples)` is `9`; None where it is not exactly one number.

    lm-eval's task asdiv takes what stands before the first " (", which is the same wherever there is one number.
    """
    bare = " ".join(_UNIT.sub(" ", answer).split())
    is_one = _HAS_DIGIT.search(bare) and _ONE_NUMBER.fullmatch(bare) and parse_number(bare)
    return bare if is_one else None


def _list_files(ctx: Context[Config]) -> list[Path]:
    """The file of the release, or the shards of the hub copy."""
    place = ctx.source("name" if ctx.config.path is None else "path")
    if not place.is_dir():
        return [place]
    for name in _XML_PLACES:
        if (place / name).is_file():
            return [place / name]
    return folder_files(place, words=_WORDS, subset="asdiv")["test"]


def _always(split: Split) -> Callable[[str], Split]:
    return lambda question_id: split  # noqa: ARG005 - whatever the id
