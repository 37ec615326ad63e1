"""What evaluate.first_error does when it runs: asks a model, and asks again behind the first steps where it was wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import Breakpoint, Context, Question, StageError, content_id
from kpod.stages._lm.completions import encode_completions, end_token_id
from kpod.stages._lm.curricula import first_targets
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.family import family
from kpod.stages._lm.generation import Request
from kpod.stages._lm.judging import judged
from kpod.stages._lm.loading import load_tokenizer
from kpod.stages._lm.prompts import Prompt, encode_prompts, encoder_ids
from kpod.stages._lm.solutions import Solution, solution_of
from kpod.stages._lm.speaking import write_texts
from kpod.stages.evaluate._scoring import check_unasked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.runner.texts import GeneratedText
    from kpod.stages._lm.artifact import ModelFiles
    from kpod.stages._lm.steps import RuleName
    from kpod.stages.evaluate.first_error import Config

# Steps that the summary names one by one.
_MOST_NAMED = 3


class Case(NamedTuple):
    """A question whose first steps can be given.

    Args:
        question: has a gold answer.
        solution: of two steps or more.
    """

    question: Question
    solution: Solution


class Sorted(NamedTuple):
    """Questions by what can be said of them; each is counted once.

    Args:
        cases: those that are asked.
        num_without_gold: no answer of theirs can be wrong.
        num_without_solution: a gold answer, but no solution.
        num_of_one_step: a solution of one step, before whose end nothing can be given.
    """

    cases: tuple[Case, ...]
    num_without_gold: int
    num_without_solution: int
    num_of_one_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of it.

    Args:
        sorted_out: the questions.
        num_wrong: cases that the model answered wrong by itself.
        rows: one for each of these that was looked at, in the order of the questions.
    """

    sorted_out: Sorted
    num_wrong: int
    rows: tuple[Breakpoint, ...]


def find_breaks(ctx: Context[Config], files: ModelFiles, questions: Sequence[Question]) -> Found:
    """The first broken step of the model's wrong answers.

    Args:
        ctx: gives settings and store, hears of progress.
        files: the model's.
        questions: with readable gold answers where they have any.

    Raises:
        StageError: nothing can be given, since of questions, or of the model's prompt.
    """
    sorted_out = sort_out(questions, rule=ctx.config.steps)
    _check_any(sorted_out, len(questions))
    speaker = _Speaker(ctx, files)
    check_unasked(speaker.examples, questions)
    cases = sorted_out.cases
    alone = speaker.texts(speaker.asked(cases), [case.question for case in cases])
    wrong = [case for case, text in zip(cases, alone, strict=True) if not _is_right(case, text)]
    chosen = drawn(wrong, limit=ctx.config.limit)
    prompts = speaker.given(chosen)
    texts = iter(
        speaker.texts(
            [ids for rows in prompts for ids in rows],
            [case.question for case, rows in zip(chosen, prompts, strict=True) for _ in rows],
        )
    )
    rows = tuple(
        breakpoint_of(case, [_is_right(case, next(texts)) for _ in rows], model=files.digest)
        for case, rows in zip(chosen, prompts, strict=True)
    )
    return Found(sorted_out=sorted_out, num_wrong=len(wrong), rows=rows)


def sort_out(questions: Sequence[Question], *, rule: RuleName) -> Sorted:
    """The questions whose first steps can be given, in their order, and how many others there are."""
    scored = [question for question in questions if question.answer is not None]
    solved = [
        Case(question, solution)
        for question in scored
        if (solution := solution_of(question, rule=rule)) is not None
    ]
    cases = tuple(case for case in solved if case.solution.num_steps > 1)
    return Sorted(
        cases, len(questions) - len(scored), len(scored) - len(solved), len(solved) - len(cases)
    )


def drawn(wrong: Sequence[Case], *, limit: int) -> list[Case]:
    """At most so many of the wrong questions, by a hash of their ids, in their order: one more question moves none of the others."""
    by_hash = nsmallest(limit, wrong, key=lambda case: content_id("first_error", case.question.id))
    kept = {case.question.id for case in by_hash}
    return [case for case in wrong if case.question.id in kept]


def breakpoint_of(case: Case, verdicts: Sequence[bool], *, model: str) -> Breakpoint:
    """Where a wrong answer breaks.

    Args:
        case: the question.
        verdicts: whether the model is right after 1, 2, … given steps, up to all but the last.
        model: content id.
    """
    num_steps = case.solution.num_steps
    assert len(verdicts) == num_steps - 1, "one verdict for every number of steps that is given"
    broken = next((given for given, is_right in enumerate(verdicts, start=1) if is_right), None)
    return Breakpoint(
        question_id=case.question.id, model=model, num_steps=num_steps, broken_step=broken
    )


class _Speaker:
    """A model, asked with its own prompt or the recipe's, as evaluate.accuracy asks it."""

    def __init__(self, ctx: Context[Config], files: ModelFiles) -> None:
        config = ctx.config
        own = files.spec.prompt
        self._ctx = ctx
        self._files = files
        self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(files)
        self._prompt = config.base_prompt.resolve() if own is None else Prompt.from_json(own)
        self.examples = config.base_examples if own is None else ()
        stop = config.base_stop if own is None else ()
        self._decoding = Decoding(max_new_tokens=config.max_new_tokens, stop=stop)
        self._has_encoder = family(files.spec) == "seq2seq"
        if not self._prompt.has_rationale:
            raise StageError(
                f"the model's prompt ({self._prompt.name}) has no reasoning in it, so no step of a solution can be given\n"
                "allowed: models whose prompt has a {rationale}, such as students with the prompt cot\n"
                "take this model out of `models`"
            )

    def asked(self, cases: Sequence[Case]) -> list[list[int]]:
        """What the model reads of each question alone."""
        return [self._read(ids) for ids in self._prompts(cases)]

    def given(self, cases: Sequence[Case]) -> list[list[list[int]]]:
        """What the model reads of each question with 1, 2, … steps of its solution, up to all but the last.

        The steps are the tokens that a curriculum gives a student of them.
        """
        if not cases:
            return []
        pairs = [(case.solution.text, case.question.answer or "") for case in cases]
        completions = encode_completions(self._tokenizer, self._prompt, pairs)
        rows = []
        for case, ids, completion in zip(cases, self._prompts(cases), completions, strict=True):
            text, ends = case.solution
            firsts = first_targets(ends[:-1], text, completion.spans)
            rows.append([self._read([*ids, *completion.ids[:first]]) for first in firsts])
        return rows

    def texts(
        self, prompts: Sequence[Sequence[int]], questions: Sequence[Question]
    ) -> list[GeneratedText]:
        """What the model says to each, with the question that each is about."""
        if not prompts:
            return []
        config = self._ctx.config
        assert config.precision != "auto", "the runner resolves precision before a stage runs"
        requests = [
            Request(prompt_ids=tuple(ids), asked_by=question.id)
            for ids, question in zip(prompts, questions, strict=True)
        ]
        return write_texts(
            self._ctx, self._files, self._tokenizer, requests, self._decoding,
            precision=config.precision, quantisation=config.quantisation, batch_tokens=config.batch_tokens,
            end_ids=frozenset({end_token_id(self._tokenizer, self._prompt)}),
        )  # fmt: skip

    def _prompts(self, cases: Sequence[Case]) -> list[list[int]]:
        asked = [case.question for case in cases]
        return encode_prompts(self._tokenizer, self._prompt, asked, examples=self.examples)

    def _read(self, ids: list[int]) -> list[int]:
        return encoder_ids(self._tokenizer, ids) if self._has_encoder else ids


def _is_right(case: Case, text: GeneratedText) -> bool:
    return bool(judged(case.question, text).is_correct)


def _check_any(found: Sorted, num_questions: int) -> None:
    if not found.cases:
        raise StageError(
            f"none of {num_questions} questions has both a gold answer and a solution of two steps or more"
            f" (no gold answer: {found.num_without_gold}, no solution: {found.num_without_solution},"
            f" a solution of one step: {found.num_of_one_step})\n"
            "allowed: data with worked solutions, such as data.gsm8k or data.word_problems\n"
            "map the solution column in the data stage, or take evaluate.first_error out of the recipe"
        )


def note_breaks(ctx: Context[Config], found: Found) -> None:
    """Note how many questions were left out and why, where answers break by the length of the solution, and one line of it."""
    sorted_out = found.sorted_out
    by_steps: dict[str, dict[str, int]] = {}
    for (num_steps, broken), count in sorted(_counted(found.rows).items(), key=_order):
        name = "never" if broken is None else str(broken)
        by_steps.setdefault(str(num_steps), {})[name] = count
    ctx.note("questions_with_steps", len(sorted_out.cases))
    ctx.note("questions_of_one_step", sorted_out.num_of_one_step)
    ctx.note("questions_without_solution", sorted_out.num_without_solution)
    ctx.note("questions_without_gold", sorted_out.num_without_gold)
    ctx.note("wrong", found.num_wrong)
    ctx.note("looked_at", len(found.rows))
    ctx.note("broken_step_by_steps", by_steps)
    ctx.note("summary", summary(found))


def _counted(rows: Sequence[Breakpoint]) -> Counter[tuple[int, int | None]]:
    return Counter((row.num_steps, row.broken_step) for row in rows)


def _order(item: tuple[tuple[int, int | None], int]) -> tuple[int, bool, int]:
    """By the length of the solution, then by the step; never comes last."""
    (num_steps, broken), _ = item
    return num_steps, broken is None, broken or 0


def summary(found: Found) -> str:
    """One line for the run's output: `wrong on 41 of 100 with a reference: step 1 breaks first in 12, step 2 in 9, …`."""
    num_cases = len(found.sorted_out.cases)
    if not found.num_wrong:
        return f"right on all {num_cases:,} with a reference"
    broken = Counter(row.broken_step for row in found.rows)
    never = broken.pop(None, 0)
    named = [(step, count) for step, count in broken.items() if step is not None]
    parts = [f"step {step} in {count:,}" for step, count in sorted(named) if step <= _MOST_NAMED]
    later = sum(count for step, count in named if step > _MOST_NAMED)
    parts += [f"a later step in {later:,}"] if later else []
    if parts:
        parts[0] = parts[0].replace(" in ", " breaks first in ")
    parts += [f"no given step helps in {never:,}"] if never else []
    looked = f", {len(found.rows):,} looked at" if len(found.rows) < found.num_wrong else ""
    return f"wrong on {found.num_wrong:,} of {num_cases:,} with a reference{looked}: {', '.join(parts)}"
