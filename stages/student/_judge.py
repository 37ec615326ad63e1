"""How a student is judged while it trains: its greedy answers, or how surprised it is by worked answers.

Both look at the student as it stands in memory, an adapter beside its base and not merged, and leave no text in the store:
the weights behind them will be gone. The answers are asked for and read as evaluate.accuracy does.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kpod.runner import Context, Question, StageError
from kpod.stages._lm.artifact import ModelFiles
from kpod.stages._lm.completions import end_token_id
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.encoding import encode_examples
from kpod.stages._lm.generation import Request, generate_texts
from kpod.stages._lm.judging import check_gold, judged
from kpod.stages._lm.likelihood import token_nll
from kpod.stages._lm.loading import Limits, family, longest_trained, read_limits
from kpod.stages._lm.prompts import model_inputs
from kpod.stages.student._watch import Sums, Tell, Watch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages._lm.family import Family
    from kpod.stages._lm.parts import Parts
    from kpod.stages._lm.passages import Passage
    from kpod.stages._lm.prompts import Prompt
    from kpod.stages.student._settings import Config
    from kpod.stages.student._student import Student

# Tokens of prompts and texts held at once: what evaluate.accuracy has by default.
_BATCH_TOKENS = 16384


def watch_of(
    ctx: Context[Config],
    stage: Student,
    files: ModelFiles,
    *,
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
) -> Watch | None:
    """What judges the student while it trains; None where `validation` is not wired.

    Raises:
        StageError: settings or inputs that would be ignored, or questions that cannot be judged by.
    """
    settings = ctx.config.validate
    if not ctx.is_wired(stage.validation):
        return None
    if settings.metric == "accuracy":
        answers = _answers(ctx, stage, files, prompt, tokenizer)
        return Watch(settings=settings, judge=answers, num=len(answers.questions))
    surprise = _surprise(ctx, stage, files, prompt, tokenizer)
    num = sum(len(passage.target_ids) for passage in surprise.passages)
    return Watch(settings=settings, judge=surprise, num=num)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Judges by the share of right greedy answers.

    Args:
        questions: with a gold answer each.
        requests: one a question.
        tokenizer: the student's.
        decoding: greedy, up to a length.
        limits: of the model.
        family: of the model.
    """

    questions: tuple[Question, ...]
    requests: tuple[Request, ...]
    tokenizer: PreTrainedTokenizerBase
    decoding: Decoding
    limits: Limits
    family: Family

    def __call__(self, student: Parts, tell: Tell) -> Sums:
        """Right answers, and questions."""
        import torch

        from kpod.runner.texts import TextStore

        with (
            tempfile.TemporaryDirectory(prefix="kpod-judged-") as folder,
            torch.autocast(
                student.device.type, dtype=torch.bfloat16, enabled=student.precision == "bf16"
            ),
        ):
            store = TextStore(Path(folder) / "texts.sqlite")
            try:
                texts = generate_texts(
                    lambda: student.inner, self.tokenizer, self.requests, self.decoding,
                    limits=self.limits, batch_tokens=_BATCH_TOKENS, store=store, model_facts={},
                    on_progress=lambda progress: tell(progress.done), family=self.family,
                )  # fmt: skip
            finally:
                store.close()
        pairs = zip(self.questions, texts, strict=True)
        return Sums(sum(bool(judged(*pair).is_correct) for pair in pairs), len(texts))


def _answers(
    ctx: Context[Config],
    stage: Student,
    files: ModelFiles,
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
) -> Answers:
    asked = list(ctx.read(stage.validation))
    check_gold(asked)
    questions = tuple(question for question in asked if question.answer is not None)
    if not questions:
        raise StageError(
            f"none of the {len(asked)} validation questions has a gold answer, so no answer can be judged\n"
            "set validate: {metric: loss} and wire validation_rationales, or take questions with answers"
        )
    kind = family(files.spec)
    sent = model_inputs(tokenizer, prompt, questions, family=kind)
    known = read_limits(files, tokenizer)
    ends = known.end_ids | {end_token_id(tokenizer, prompt)}
    return Answers(
        questions=questions,
        requests=tuple(
            Request(prompt_ids=tuple(ids), asked_by=question.id)
            for question, ids in zip(questions, sent, strict=True)
        ),
        tokenizer=tokenizer,
        decoding=Decoding(max_new_tokens=ctx.config.validate.max_new_tokens),
        limits=Limits(ends, known.context_tokens),
        family=kind,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Surprise:
    """Judges by the negative log-likelihood of worked answers: whole, every token by weight 1.

    Args:
        passages: context and targets, as a last epoch trains them.
        batch_tokens: most tokens computed at once.
    """

    passages: tuple[Passage, ...]
    batch_tokens: int

    def __call__(self, student: Parts, tell: Tell) -> Sums:
        """Nats, and target tokens."""
        nats = token_nll(
            student, self.passages, batch_tokens=self.batch_tokens,
            progress=lambda done, _total: tell(done),
        )  # fmt: skip
        return Sums(math.fsum(map(math.fsum, nats)), sum(map(len, nats)))


def _surprise(
    ctx: Context[Config],
    stage: Student,
    files: ModelFiles,
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
) -> Surprise:
    config = ctx.config
    assert config.micro_batch_tokens != "auto", "the runner resolves auto"
    limits = [limit for limit in (config.max_length, longest_trained(files)) if limit is not None]
    try:
        encoded = encode_examples(
            tokenizer,
            questions=ctx.read(stage.validation),
            rationales=list(ctx.read(stage.validation_rationales)),
            prompt=prompt,
            max_length=min(limits),
            on_too_long=config.on_too_long,
            has_encoder=family(files.spec) == "seq2seq",
        )
    except StageError as error:
        raise StageError(f"validation_rationales: {error}") from error
    passages = tuple(example.passage(1) for example in encoded.examples)
    return Surprise(passages=passages, batch_tokens=config.micro_batch_tokens)
