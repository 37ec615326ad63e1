"""Word problems made on the spot: offline, seeded, with worked steps, in a closed vocabulary of whole numbers 0 to 99.

    Tom has 12 apples. Tom buys 7 more apples. Then Tom gives 4 apples to Ann. How many apples does Tom have now?
    Tom has 12 + 7 = 19 apples. Tom has 19 - 4 = 15 apples.

Every number is one word, so that a model of a few hundred thousand parameters can learn to reason here on a laptop;
the answer never stands in the question. Source: none, made for kpod's embedded default.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from kpod.runner import Context, Doc, Ge, MinItems, Output, Question, Stage, StageError
from kpod.stages.data._splits import NO_LIMIT, Limit, Part, Placed, Split, publish

if TYPE_CHECKING:
    from kpod.stages.data._stories import Problem

Form = Literal["equation", "one_step", "two_step", "three_step", "four_step"]
_NUM_STEPS: Mapping[Form, int] = {"one_step": 1, "two_step": 2, "three_step": 3, "four_step": 4}
_MAX_REPEATS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of data.word_problems."""

    num_train: Annotated[int, Doc("Training problems."), Ge(0)] = 2000
    num_validation: Annotated[int, Doc("Validation problems."), Ge(0)] = 300
    num_test: Annotated[int, Doc("Test problems."), Ge(0)] = 500
    forms: Annotated[
        tuple[Form, ...],
        Doc("What is made, each with equal chance: bare equations, or stories of so many steps."),
        MinItems(1),
    ] = ("two_step", "three_step")
    filler_words: Annotated[
        bool, Doc("Add sentences without numbers that have no bearing: a harder variant.")
    ] = False
    seed: Annotated[int, Doc("Seed of the problems, apart from the recipe's seed."), Ge(0)] = 0
    limit: Annotated[Limit, Doc("Questions to keep of each split.")] = NO_LIMIT


class WordProblems(Stage[Config]):
    """Procedural problems with their worked solutions; no problem is in two splits."""

    uses = "data.word_problems"
    version = 1
    seeded = "data"
    determinism = "seeded"
    train = Output(Question, role="train")
    validation = Output(Question, role="validation")
    test = Output(Question, role="test")

    def run(self, ctx: Context[Config]) -> None:
        """Make the problems, test first, so that more training problems change no other split."""
        config = ctx.config
        sizes: dict[Split, int] = {
            "test": config.num_test, "validation": config.num_validation, "train": config.num_train,
        }  # fmt: skip
        taken: set[str] = set()
        parts = []
        for split, size in sizes.items():
            problems = list(_distinct(config, split, size, taken))
            parts.append(Part(read=_reader(problems), split_of=_always(split)))
        publish(
            ctx,
            {"train": self.train, "validation": self.validation, "test": self.test},
            parts,
            limit=config.limit,
            drops_overlap=False,
        )


def _reader(problems: list[Question]) -> Callable[[], Iterator[Placed]]:
    return lambda: (Placed(f"problem {number}", each) for number, each in enumerate(problems, 1))


def _always(split: Split) -> Callable[[str], Split]:
    return lambda question_id: split  # noqa: ARG005 - whatever the id


def _distinct(config: Config, split: Split, size: int, taken: set[str]) -> Iterator[Question]:
    """As many problems as asked, none of them taken; the ids are added to `taken`."""
    stream = _stream(config.seed, split)
    num_repeats = 0
    num_made = 0
    while num_made < size:
        question = _question(_problem(stream, config), split)
        if question.id not in taken:
            taken.add(question.id)
            num_made += 1
            num_repeats = 0
            yield question
        elif (num_repeats := num_repeats + 1) >= _MAX_REPEATS:
            raise StageError(
                f"got only {len(taken)} different problems of the forms {', '.join(config.forms)}, "
                f"and {split} wants {size - num_made} more\n"
                "  allowed: sizes that the forms can fill without repeating a problem\n"
                "  lower 'num_train', 'num_validation' or 'num_test', or add forms"
            )


def _stream(seed: int, split: Split) -> random.Random:
    """The stream of a split: the same on every machine and Python version, and its own for each seed and split."""
    digest = hashlib.sha256(f"word_problems:{seed}:{split}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 - nothing here is secret


def _problem(stream: random.Random, config: Config) -> Problem:
    from kpod.stages.data._stories import equation, story

    form = stream.choice(config.forms)
    if form == "equation":
        return equation(stream)
    return story(
        stream,
        num_steps=_NUM_STEPS[form],
        has_distractor=form == "one_step",
        has_fillers=config.filler_words,
    )


def _question(problem: Problem, split: Split) -> Question:
    return Question.make(
        problem.text,
        kind="numeric",
        answer=str(problem.answer),
        split=split,
        source="word_problems",
        solution=problem.solution,
    )
