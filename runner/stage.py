"""What a stage is: one Config, named inputs and outputs, and `run`.

A method author writes one file with a frozen keyword-only `Config` and one class; caching, resume, schema, wiring and
reports come from here. Source of the shape: DESIGN 4.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from kpod.runner.record import Record
from kpod.runner.source import Source

if TYPE_CHECKING:
    from kpod.runner.archive import Archive
    from kpod.runner.capability import Capability
    from kpod.runner.context import Context

ConfigT = TypeVar("ConfigT")
RecordT = TypeVar("RecordT", bound=Record)
Role = Literal["train", "validation", "test"]
Seeded = Literal["none", "data", "recipe"]
Determinism = Literal["pure", "seeded", "hardware", "external"]


@dataclass(eq=False, slots=True)
class Input(Generic[RecordT]):
    """Something a stage reads.

    Args:
        record: the type of record it takes.
        role: takes only outputs of this role (train, validation, test); None takes those without a role.
        optional: wired only when the recipe names it.
        many: takes a list of sources.
        each: takes a list; the stage is run once for every element (each its own key and entry).
        agree: settings that this stage shares with the stage behind the wire: equal, or filled in from there.
        replaces: settings that this optional input stands for: null where it is wired, set where it is not.
    """

    record: type[RecordT]
    role: Role | None = None
    optional: bool = False
    many: bool = False
    each: bool = False
    agree: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


@dataclass(eq=False, slots=True)
class Output(Generic[RecordT]):
    """Something a stage writes.

    Args:
        record: the type of record it holds; a folder where the type says so (Model).
        role: train, validation, test, or none.
        refines: the name of the input that this output supersedes for automatic wiring (a filter's).
    """

    record: type[RecordT]
    role: Role | None = None
    refines: str | None = None
    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


@cache
def _sockets(stage: type) -> tuple[dict[str, Input[Any]], dict[str, Output[Any]]]:
    """Inputs and outputs that the bodies of a class and its bases hold, the bases' first; wiring asks again and again."""
    declared = [item for base in reversed(stage.__mro__) for item in vars(base).items()]
    return (
        {name: value for name, value in declared if isinstance(value, Input)},
        {name: value for name, value in declared if isinstance(value, Output)},
    )


def unfit_sockets(stage: type) -> str:
    """What a class declares about its inputs and outputs that cannot be, in words; "" where there is nothing.

    Args:
        stage: a Stage or a View, whose `config_class` is known.
    """
    inputs, outputs = _sockets(stage)
    settings = {setting.name for setting in fields(stage.config_class)}  # type: ignore[attr-defined]
    for name, wanted in inputs.items():
        if name in outputs:
            return f"{name} is the name of an input and of an output"
        # One that is to agree may be another stage's: this one hands it on.
        for setting in wanted.replaces:
            if setting not in settings:
                return f"{name}: replaces '{setting}', which is none of its settings ({', '.join(sorted(settings))})"
    for name, made in outputs.items():
        if made.refines is not None and made.refines not in inputs:
            return f"{name}: refines '{made.refines}', which is none of its inputs ({', '.join(inputs)})"
    return ""


def _config_class(stage: type) -> type:
    """The C of `Stage[C]`, checked to be a frozen, keyword-only dataclass."""
    for base in getattr(stage, "__orig_bases__", ()):
        for argument in typing.get_args(base):
            if isinstance(argument, type):
                params = getattr(argument, "__dataclass_params__", None)
                assert is_dataclass(argument), (
                    f"{stage.__name__}: {argument.__name__} is not a dataclass"
                )
                assert params is not None
                assert params.frozen, f"{stage.__name__}: {argument.__name__} is not frozen"
                assert all(field.kw_only for field in fields(argument)), (
                    f"{stage.__name__}: {argument.__name__} is not kw_only"
                )
                return argument
    raise AssertionError(f"{stage.__name__} names no Config: class {stage.__name__}(Stage[Config])")


class _Described(Generic[ConfigT]):
    """What stages and views have in common: a name in recipes and a Config."""

    uses: ClassVar[str]
    config_class: ClassVar[type[Any]]

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "uses" in cls.__dict__:
            cls.config_class = _config_class(cls)


class Stage(_Described[ConfigT]):
    """One step of a recipe.

    Class attributes:
        uses: its name in recipes, `kind.method`.
        version: raised when the code changes what comes out; None: a digest of the module's code stands in for it.
        seeded: where randomness comes from: none, `data` (the setting `seed`) or `recipe` (the recipe's seed and the kind).
        libraries: distributions whose installed version can change what comes out.
        determinism: what a result made again from the same key may differ by. pure: nothing, it computes no floats that a
            library may order anew; seeded: nothing, its random numbers come from its seed alone; hardware: floats, on another
            machine or with another number of threads; external: everything, others answer.
        parallel: whether several processes may run it together (`placement.processes`): all of them call `run`, only the
            first (RANK 0) writes outputs and checkpoints.
        by_question: whether what it makes of a question depends on that question's records alone, so that a few questions
            show what it makes of all of them (`kpod accept`).
    """

    version: ClassVar[int | None] = None
    seeded: ClassVar[Seeded] = "none"
    libraries: ClassVar[tuple[str, ...]] = ()
    determinism: ClassVar[Determinism] = "hardware"
    parallel: ClassVar[bool] = False
    by_question: ClassVar[bool] = False

    @classmethod
    def inputs(cls) -> dict[str, Input[Any]]:
        """Inputs by name, in the order of the file; those of a base class first."""
        return dict(_sockets(cls)[0])  # type: ignore[arg-type]  # a class is hashable

    @classmethod
    def outputs(cls) -> dict[str, Output[Any]]:
        """Outputs by name, in the order of the file; those of a base class first."""
        return dict(_sockets(cls)[1])  # type: ignore[arg-type]  # a class is hashable

    @classmethod
    def check(cls, config: ConfigT, wired: frozenset[str]) -> None:
        """Refuse what settings and wires cannot do together: told with the recipe's other mistakes, before anything is paid.

        Args:
            config: of which the settings that stages share are filled in.
            wired: names of the inputs that are.

        Raises:
            SettingError: at one of the settings.
        """

    @classmethod
    def check_installed(cls, config: ConfigT) -> None:
        """Look for the libraries beyond kpod's own that this config needs, here; asked before anything of a run is paid.

        Raises:
            MissingExtra: one is not installed.
        """

    @classmethod
    def sources(cls, config: ConfigT) -> Mapping[str, Source]:  # noqa: ARG003 - for subclasses
        """What is read from outside, by the setting that names it; that setting's content stands in the key."""
        return {}

    @classmethod
    def version_of(cls, config: ConfigT) -> int | None:  # noqa: ARG003 - for subclasses
        """The version of what comes out under this config: an earlier one where the last change does not touch it."""
        return cls.version

    @classmethod
    def libraries_of(cls, config: ConfigT) -> tuple[str, ...]:  # noqa: ARG003 - for subclasses
        """The libraries that bear on the result under this config."""
        return cls.libraries

    @classmethod
    def is_seeded(cls, config: ConfigT) -> bool:  # noqa: ARG003 - for subclasses
        """Whether the seed can matter under this config (a greedy teacher says no)."""
        return cls.seeded != "none"

    @classmethod
    def resolve(
        cls,
        config: ConfigT,
        capability: Capability,  # noqa: ARG003 - for subclasses
        models: Mapping[str, Path],  # noqa: ARG003 - for subclasses
    ) -> ConfigT:
        """The config with every `auto` replaced by what this machine makes of it; the result stands in the key.

        Args:
            config: as the recipe has it.
            capability: what the machine can do.
            models: folders of the Model inputs, by the input's name.
        """
        return config

    def run(self, ctx: Context[ConfigT]) -> None:
        """Read the inputs, write every output. All that it may touch is in `ctx`."""
        raise NotImplementedError


class View(_Described[ConfigT]):
    """A page made from an archive: never keyed, never cached, made again by `kpod report RUN`."""

    def render(self, archive: Archive, config: ConfigT) -> None:
        """Write the page's files into the archive."""
        raise NotImplementedError
