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
    StageError,
    Usage,
)
from kpod.runner.capability import Capability
from kpod.stages._lm.artifact import locate
from kpod.stages._lm.completions import end_token_id
from kpod.stages._lm.decoding import Decoding, check_sampling
from kpod.stages._lm.family import family
from kpod.stages._lm.precision import resolve_precision
from kpod.stages._lm.prompts import Prompt, model_inputs
from kpod.stages._lm.usage import sum_of_usage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.runner.texts import GeneratedText

_ASKS = (
    "{question}\n\n"
    "Think step by step: one short step a line, with its arithmetic. "
    "End with a last line of the form: The answer is N."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherPrompt:
    """What the teacher reads."""

    format: Annotated[
        Literal["plain", "chat", "auto"],
        Doc(
            "plain: the text as it stands; chat: as a user's turn; auto: chat where the tokenizer has a template."
        ),
    ] = "auto"
    template: Annotated[
        str,
        Doc("The text, with {question}; a multiple-choice question brings its lettered choices."),
    ] = _ASKS
    system: Annotated[str | None, Doc("System message; only in a chat.")] = None
    thinking: Annotated[
        Literal["off", "on", "keep"],
        Doc(
            "Thinking mode of chat templates that have one (Qwen3); keep: the template's own default."
        ),
    ] = "off"

    def __post_init__(self) -> None:
        if self.template.count("{question}") != 1:
            raise SettingError(
                "template",
                f"has {{question}} {self.template.count('{question}')} times",
                hint="write it exactly once",
            )
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
    version = 1
    seeded = "data"
    libraries = ("peft", "torch", "transformers")
    model = Input(Model)
    questions = Input(Question, role="train")
    rationales = Output(Rationale)

    @classmethod
    def is_seeded(cls, config: Config) -> bool:
        """Only sampling reads the seed."""
        return config.temperature > 0

    @classmethod
    def resolve(cls, config: Config, capability: Capability, models: Mapping[str, Path]) -> Config:
        """Precision by the machine and the model's width."""
        precision = resolve_precision(config.precision, capability, models["model"])
        return replace(config, precision=precision)

    def run(self, ctx: Context[Config]) -> None:
        """Ask the model every question, `samples` times."""
        from kpod.stages._lm.generation import Request
        from kpod.stages._lm.loading import load_tokenizer
        from kpod.stages._lm.speaking import write_texts

        config = ctx.config
        assert config.precision != "auto", "the runner resolves precision before a stage runs"
        questions = list(ctx.read(self.questions))
        files = locate(ctx, self.model)
        tokenizer = load_tokenizer(files)
        prompt = teacher_prompt(config.prompt, tokenizer)
        sent = model_inputs(tokenizer, prompt, questions, family=family(files.spec))
        requests = [
            Request(prompt_ids=tuple(ids), sample=sample, asked_by=question.id)
            for question, ids in zip(questions, sent, strict=True)
            for sample in range(config.samples)
        ]
        decoding = Decoding(
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            stop=config.stop,
            seed=ctx.seed,
        )
        texts = write_texts(
            ctx, files, tokenizer, requests, decoding,
            precision=config.precision, batch_tokens=config.batch_tokens,
            end_ids=frozenset({end_token_id(tokenizer, prompt)}),
        )  # fmt: skip
        rationales = rationales_of(
            questions, texts, samples=config.samples, teacher=files.digest[:16]
        )
        with ctx.write(self.rationales) as out:
            for rationale in rationales:
                out.add(rationale)
        _note(ctx, texts, num_rationales=len(rationales), num_questions=len(questions))


def teacher_prompt(config: TeacherPrompt, tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """The prompt as students' prompts are written, its format decided; the teacher says all that follows it.

    Raises:
        StageError: a system message or a thinking mode, and no chat template to take it.
    """
    has_template = bool(tokenizer.chat_template)
    is_chat = config.format == "chat" or (config.format == "auto" and has_template)
    if not is_chat and (config.system is not None or config.thinking != "off"):
        raise StageError(
            "prompt.system or prompt.thinking is set, but the teacher's tokenizer has no chat template to take it\n"
            "leave it out, or use an instruction-tuned teacher"
        )
    return Prompt(
        name="custom",
        version=1,
        template=config.template + "{rationale}",
        format="chat" if is_chat else "plain",
        system=config.system,
        thinking=config.thinking,
    )


def rationales_of(
    questions: Sequence[Question], texts: Sequence[GeneratedText], *, samples: int, teacher: str
) -> list[Rationale]:
    """Rationales in the order of the questions; a question's identical samples are one, with their count and all they cost.

    Args:
        questions: in the order in which they were asked.
        texts: `samples` of them a question.
        samples: texts a question.
        teacher: the model's content id.
    """
    assert len(texts) == len(questions) * samples
    made: dict[str, Rationale] = {}
    for index, text in enumerate(texts):
        one = Rationale.make(
            questions[index // samples].id,
            text.text.strip(),
            teacher=teacher,
            usage=Usage(prompt_tokens=text.prompt_tokens, completion_tokens=text.completion_tokens),
            finish=text.finish,
        )
        known = made.get(one.id)
        if known is None:
            made[one.id] = one
        else:
            finish = "stop" if "stop" in {known.finish, one.finish} else known.finish
            usage = sum_of_usage(known.usage, one.usage)
            made[one.id] = replace(known, count=known.count + 1, usage=usage, finish=finish)
    return list(made.values())


def _note(
    ctx: Context[Config], texts: Sequence[GeneratedText], *, num_rationales: int, num_questions: int
) -> None:
    num_cut = sum(text.finish == "length" for text in texts)
    ctx.note("prompt_tokens", sum(text.prompt_tokens for text in texts))
    num_tokens = sum(text.completion_tokens for text in texts)
    ctx.note("completion_tokens", num_tokens)
    ctx.note("truncated", num_cut)
    cut = f", {num_cut:,} cut at {ctx.config.max_new_tokens:,} tokens" if num_cut else ""
    ctx.note(
        "summary",
        f"{num_rationales:,} rationales for {num_questions:,} questions{cut}; {num_tokens:,} tokens written",
    )
