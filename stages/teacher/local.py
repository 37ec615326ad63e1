"""A language model on this machine, causal or with an encoder, writes the rationales, on the engine that evaluation uses.

Every text is stored once by what made it (prompt, model, precision, decoding, seed, sample), so that more questions or more samples
pay only for what is new. Prompts: PRACTICE 1, rows 5, 9 and 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from kpod.runner import (
    Context,
    Doc,
    Forecast,
    Ge,
    Gt,
    Input,
    Le,
    Model,
    Output,
    Question,
    Rationale,
    SettingError,
    Stage,
)
from kpod.runner.capability import Capability
from kpod.stages._lm.artifact import locate
from kpod.stages._lm.decoding import Decoding, check_sampling
from kpod.stages._lm.family import family
from kpod.stages._lm.precision import resolve_precision
from kpod.stages._lm.quantised import QuantisationSetting
from kpod.stages.teacher._prompt import AskPrompt, asks, solved_ids

if TYPE_CHECKING:
    from kpod.runner.texts import GeneratedText


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherPrompt(AskPrompt):
    """What a teacher on this machine reads."""

    format: Annotated[
        Literal["plain", "chat", "auto"],
        Doc(
            "plain: the text as it stands; chat: as a user's turn; auto: chat where the tokenizer has a template."
        ),
    ] = "auto"
    thinking: Annotated[
        Literal["off", "on", "keep"],
        Doc(
            "Thinking mode of chat templates that have one (Qwen3). on: it thinks, and the rationale is what comes "
            "after </think>; keep: the thought stays in the rationale."
        ),
    ] = "off"

    def __post_init__(self) -> None:
        AskPrompt.__post_init__(self)
        if self.format == "plain" and (self.system is not None or self.thinking != "off"):
            raise SettingError(
                "system" if self.system is not None else "thinking",
                "has no effect in a plain prompt",
                hint="set format: chat, or leave it out",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How the teacher is asked, and how it chooses its words."""

    samples: Annotated[
        int, Doc("Texts a question; more than one needs a temperature above 0."), Ge(1)
    ] = 1
    temperature: Annotated[
        float,
        Doc("0: the likeliest token each time; above: sampling, wilder as it grows."),
        Ge(0),
        Le(5),
    ] = 0.0
    top_p: Annotated[
        float,
        Doc("Sample among the likeliest tokens that together have this probability."),
        Gt(0),
        Le(1),
    ] = 1.0
    max_new_tokens: Annotated[
        int,
        Doc("Longest text, in the teacher's tokens; a longer one is cut and counts as truncated."),
        Ge(1),
    ] = 512
    stop: Annotated[tuple[str, ...], Doc("A text ends before the first of these.")] = ()
    prompt: Annotated[TeacherPrompt, Doc("What the teacher reads.")] = field(
        default_factory=TeacherPrompt
    )
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Doc("What the model computes in; auto: bf16 where that is faster."),
    ] = "auto"
    quantisation: QuantisationSetting = "none"
    batch_tokens: Annotated[
        int,
        Doc("Tokens of prompts and texts held at once: more is faster and takes more memory."),
        Ge(1),
    ] = 16384
    seed: Annotated[int, Doc("Seed of the samples; not read at temperature 0."), Ge(0)] = 0

    def __post_init__(self) -> None:
        check_sampling(temperature=self.temperature, top_p=self.top_p, samples=self.samples)
        if "" in self.stop:
            raise SettingError(
                "stop", "holds an empty text, before which every text ends", hint="take it out"
            )


class Local(Stage[Config]):
    """Rationales for every question, by a model that is loaded here."""

    uses = "teacher.local"
    version = 2
    seeded = "data"
    by_question = True
    libraries = ("peft", "torch", "transformers")
    model = Input(Model)
    questions = Input(Question, role="train")
    solved = Input(Rationale, optional=True)
    rationales = Output(Rationale)

    @classmethod
    def version_of(cls, config: Config) -> int | None:
        """Version 2 leaves an adapter beside weights that are rounded to bf16, where too little of it would be left."""
        return cls.version if config.precision == "bf16" else 1

    @classmethod
    def libraries_of(cls, config: Config) -> tuple[str, ...]:
        """Bitsandbytes too, where it holds the weights."""
        return cls.libraries if config.quantisation == "none" else (*cls.libraries, "bitsandbytes")

    @classmethod
    def is_seeded(cls, config: Config) -> bool:
        """Only sampling reads the seed."""
        return config.temperature > 0

    @classmethod
    def shown(cls, config: Config) -> tuple[str, ...]:
        """The questions that are shown as examples."""
        return tuple(example.question for example in config.prompt.examples)

    @classmethod
    def resolve(cls, config: Config, capability: Capability, models: Mapping[str, Path]) -> Config:
        """Precision by the machine and the model's width."""
        precision = resolve_precision(config.precision, capability, models["model"])
        return replace(config, precision=precision)

    def run(self, ctx: Context[Config]) -> None:
        """Ask the model every question, `samples` times; where `solved` is wired, only those without a rationale, with a hint."""
        from kpod.stages._lm.generation import Request
        from kpod.stages._lm.loading import load_tokenizer
        from kpod.stages._lm.speaking import write_texts
        from kpod.stages.teacher._rationales import rationales_of
        from kpod.stages.teacher._reading import read_ids, reply_end_id

        config = ctx.config
        assert config.precision != "auto", "the runner resolves precision before a stage runs"
        questions = list(ctx.read(self.questions))
        solved = solved_ids(ctx.read(self.solved)) if ctx.is_wired(self.solved) else None
        asked = asks(config.prompt, questions, solved=solved)
        files = locate(ctx, self.model)
        tokenizer = load_tokenizer(files)
        sent = read_ids(tokenizer, config.prompt, asked, family=family(files.spec))
        requests = [
            Request(prompt_ids=tuple(ids), sample=sample, asked_by=ask.question.id)
            for ask, ids in zip(asked, sent, strict=True)
            for sample in range(config.samples)
        ]
        texts = write_texts(
            ctx, files, tokenizer, requests, _decoding(config, seed=ctx.seed),
            precision=config.precision, quantisation=config.quantisation, batch_tokens=config.batch_tokens,
            end_ids=frozenset({reply_end_id(tokenizer, config.prompt)}),
        )  # fmt: skip
        rationales = rationales_of(
            asked, texts, samples=config.samples, teacher=files.digest[:16],
            thinking=config.prompt.thinking,
        )  # fmt: skip
        with ctx.write(self.rationales) as out:
            for rationale in rationales:
                out.add(rationale)
        _note(ctx, texts, num_rationales=len(rationales), num_questions=len(asked))

    def forecast(self, ctx: Context[Config]) -> Forecast:
        """How many texts a run would ask for; what is stored is known only once prompts are tokenised."""
        questions = list(ctx.read(self.questions))
        solved = solved_ids(ctx.read(self.solved)) if ctx.is_wired(self.solved) else None
        asked = asks(ctx.config.prompt, questions, solved=solved)
        return Forecast(
            num_texts=len(asked) * ctx.config.samples,
            num_stored=None,
            prompt_tokens=None,
            completion_tokens=None,
            usd=None,
            basis="written on this machine",
        )


def _decoding(config: Config, *, seed: int) -> Decoding:
    return Decoding(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        stop=config.stop,
        seed=seed,
    )


def _note(
    ctx: Context[Config], texts: Sequence[GeneratedText], *, num_rationales: int, num_questions: int
) -> None:
    num_cut = sum(text.finish == "length" for text in texts)
    ctx.note("prompt_tokens", sum(text.prompt_tokens for text in texts))
    num_tokens = sum(text.completion_tokens for text in texts)
    ctx.note("completion_tokens", num_tokens)
    ctx.note("truncated", num_cut)
    ctx.note("refused", sum(text.is_refused for text in texts))
    cut = f", {num_cut:,} cut at {ctx.config.max_new_tokens:,} tokens" if num_cut else ""
    ctx.note(
        "summary",
        f"{num_rationales:,} rationales for {num_questions:,} questions{cut}; {num_tokens:,} tokens written",
    )
