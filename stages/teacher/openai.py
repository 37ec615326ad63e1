"""A model behind an OpenAI-compatible chat endpoint writes the rationales: OpenAI, OpenRouter, vLLM, SGLang, llama.cpp, Ollama.

Every text is stored once by what made it (provider, model, messages, decoding, seed, sample), so that an interrupted run, more
questions or more samples pay only for what is new. Where a setting's source says API reference, it is OpenAI's, "Create chat completion".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kpod.runner import (
    Context,
    Doc,
    Forecast,
    Ge,
    Gt,
    Input,
    Le,
    MinItems,
    Output,
    Pattern,
    Price,
    Question,
    Rationale,
    SettingError,
    Stage,
    Volatile,
)
from kpod.stages._lm.decoding import check_sampling
from kpod.stages.teacher._address import check_extra, check_url
from kpod.stages.teacher._prompt import AskPrompt, asks, solved_ids

if TYPE_CHECKING:
    from kpod.runner import BatchRequest
    from kpod.runner.texts import GeneratedText
    from kpod.stages.teacher._course import Course


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Who is asked, how, and how fast."""

    urls: Annotated[
        tuple[str, ...],
        Doc(
            "Base URLs of servers with the same model, each asked in turn: https://api.openai.com/v1."
        ),
        MinItems(1),
    ]
    model: Annotated[
        str, Doc("The model, as the endpoint calls it."), Pattern(r"\S", "a model's name")
    ]
    provider: Annotated[
        str | None,
        Doc(
            "A name that stands for the URLs where texts are kept, so that a server may move and no text is asked again;"
            " null: the URLs themselves."
        ),
    ] = None
    api_key_env: Annotated[
        str | None,
        Doc(
            "Name of the environment variable that holds the key. null: OPENAI_API_KEY where it is set and every URL is https,"
            " else no key, as local servers need none."
        ),
        Pattern(
            r"^[A-Za-z_][A-Za-z0-9_]*$", "the name of an environment variable, never the key itself"
        ),
        Volatile(),
    ] = None
    samples: Annotated[
        int, Doc("Texts a question; more than one needs a temperature above 0."), Ge(1)
    ] = 1
    temperature: Annotated[
        float,
        Doc(
            "0: the likeliest token each time; above: sampling, wilder as it grows; at most 2 (API reference)."
        ),
        Ge(0),
        Le(2),
    ] = 0.0
    top_p: Annotated[
        float,
        Doc("Sample among the likeliest tokens that together have this probability."),
        Gt(0),
        Le(1),
    ] = 1.0
    max_new_tokens: Annotated[
        int,
        Doc("Longest text, in the model's tokens; a longer one is cut and counts as truncated."),
        Ge(1),
    ] = 512
    token_limit: Annotated[
        Literal["max_tokens", "max_completion_tokens"],
        Doc(
            "The field that carries max_new_tokens: newer models of OpenAI take only max_completion_tokens (API reference)."
        ),
    ] = "max_tokens"  # noqa: S105 - a field's name
    stop: Annotated[
        tuple[str, ...], Doc("A text ends before the first of these; OpenAI takes at most four.")
    ] = ()
    prompt: Annotated[AskPrompt, Doc("What the teacher reads.")] = field(default_factory=AskPrompt)
    thinking: Annotated[
        Literal["off", "on", "keep"] | None,
        Doc(
            "Thinking mode of servers that have the switch enable_thinking (vLLM, SGLang, Qwen3); null sends nothing. A thought"
            " is taken off the rationale, but for keep."
        ),
    ] = None
    extra_body: Annotated[
        dict[str, bool | int | float | str],
        Doc(
            "More fields of the request, sent as they stand (min_p: 0.05); they decide the text, so they name it too."
        ),
    ] = field(default_factory=dict)
    samples_per_request: Annotated[
        int | None,
        Doc(
            "Most samples asked for in one request (n), which then pays for its prompt once; null: all of a question. 1 for"
            " servers that know no n."
        ),
        Ge(1),
    ] = None
    seed: Annotated[int, Doc("Seed of the first sample; not sent at temperature 0."), Ge(0)] = 0
    check_model: Annotated[
        bool,
        Doc("Ask each server for its models first; one that does not list ours is an error."),
        Volatile(),
    ] = True
    concurrency: Annotated[
        int,
        Doc("Most requests at once; fewer are sent while the server says that it is too much."),
        Ge(1),
        Le(1000),
        Volatile(),
    ] = 16
    requests_per_minute: Annotated[
        int | None, Doc("Most requests a minute; null: no limit."), Ge(1), Volatile()
    ] = None
    tokens_per_minute: Annotated[
        int | None,
        Doc("Most tokens a minute, prompt and completion together; null: no limit."),
        Ge(1),
        Volatile(),
    ] = None
    deadline_s: Annotated[
        float, Doc("Seconds after which a request is given up and asked again."), Gt(0), Volatile()
    ] = 120.0
    max_attempts: Annotated[
        int,
        Doc(
            "Failed requests after which a question is given up; being told to come later is none while others are answered."
        ),
        Ge(1),
        Volatile(),
    ] = 8
    first_wait_s: Annotated[
        float,
        Doc(
            "Longest wait after the first failure, in seconds; it doubles with each, up to a minute."
        ),
        Gt(0),
        Volatile(),
    ] = 0.5
    price: Annotated[
        Price | None,
        Doc(
            "What the endpoint takes: for the forecast, the ledger and --budget. Never guessed; null: not known."
        ),
        Volatile(),
    ] = None

    def __post_init__(self) -> None:
        check_sampling(temperature=self.temperature, top_p=self.top_p, samples=self.samples)
        if "" in self.stop:
            raise SettingError(
                "stop", "holds an empty text, before which every text ends", hint="take it out"
            )
        for url in self.urls:
            check_url(url)
        check_extra(self.extra_body, has_thinking=self.thinking is not None)


class OpenAi(Stage[Config]):
    """Rationales for every question, by a model behind an endpoint."""

    uses = "teacher.openai"
    version = 1
    seeded = "data"
    determinism = "external"
    questions = Input(Question, role="train")
    solved = Input(Rationale, optional=True)
    rationales = Output(Rationale)

    @classmethod
    def is_seeded(cls, config: Config) -> bool:
        """Only sampling reads the seed."""
        return config.temperature > 0

    @classmethod
    def shown(cls, config: Config) -> tuple[str, ...]:
        """The questions that are shown as examples."""
        return tuple(example.question for example in config.prompt.examples)

    @classmethod
    def price(cls, config: Config) -> Price | None:
        """What the endpoint takes."""
        return config.price

    @classmethod
    def read_batch_answer(cls, body: Mapping[str, Any], num_texts: int) -> list[GeneratedText]:
        """The texts of a chat.completion object.

        Raises:
            ValueError: it is none.
        """
        from kpod.stages.teacher._replies import read_reply

        return read_reply(body, num_texts=num_texts).texts

    def batch_requests(self, ctx: Context[Config]) -> Iterator[BatchRequest]:
        """Requests for the texts that are not stored."""
        from kpod.stages.teacher._course import batch_requests

        return batch_requests(ctx, self._course(ctx))

    def forecast(self, ctx: Context[Config]) -> Forecast:
        """What a run would ask for now, and what that would cost."""
        from kpod.stages.teacher._costs import forecast

        config = ctx.config
        endpoints = (config.provider,) if config.provider else config.urls
        return forecast(ctx, self._course(ctx), endpoints=endpoints, price=config.price)

    def run(self, ctx: Context[Config]) -> None:
        """Ask for every text that is not stored, then write the rationales of all.

        Raises:
            StageError: no key, no such model, or the endpoint refuses us; questions that it refuses, after the others are stored.
            BudgetReached: what is left costs more than the budget has.
        """
        from kpod.stages.teacher._costs import note_costs, note_texts
        from kpod.stages.teacher._course import ask_missing, take_stock, write_rationales

        config = ctx.config
        course = self._course(ctx)
        stock = take_stock(ctx, course)
        note_costs(ctx, stock, *ask_missing(ctx, course, stock), price=config.price)
        with ctx.write(self.rationales) as out:
            written = write_rationales(
                ctx, course, out.add, teacher=config.model, thinking=config.thinking
            )
        note_texts(ctx, written, num_questions=len(course.asks), most_tokens=config.max_new_tokens)

    def _course(self, ctx: Context[Config]) -> Course:
        """What this stage asks."""
        from kpod.stages.teacher._course import Course
        from kpod.stages.teacher._form import Form

        config = ctx.config
        questions = list(ctx.read(self.questions))
        solved = solved_ids(ctx.read(self.solved)) if ctx.is_wired(self.solved) else None
        extra: dict[str, Any] = dict(config.extra_body)
        if config.thinking is not None:
            extra["chat_template_kwargs"] = {"enable_thinking": config.thinking != "off"}
        form = Form(
            provider=(config.provider,) if config.provider else tuple(sorted(url.rstrip("/") for url in config.urls)),
            model=config.model, max_new_tokens=config.max_new_tokens, token_limit=config.token_limit,
            temperature=config.temperature, top_p=config.top_p, stop=config.stop, seed=ctx.seed, extra=extra,
        )  # fmt: skip
        return Course(
            form=form, prompt=config.prompt, asks=asks(config.prompt, questions, solved=solved),
            samples=config.samples, per_request=config.samples_per_request,
        )  # fmt: skip
