"""Questions grouped by what they are about, so that a curriculum can draw from all groups.

Source: KPOD section 3.4 and appendix A: K-means, K = 5, on the mean of the GloVe vectors of a question's words. Which GloVe vectors and
which seed the paper used is not known; the other vectors are our additions. A question's choices are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from kpod.runner import (
    Assignment,
    Context,
    Doc,
    Ge,
    Input,
    LocalFile,
    LocalPath,
    Model,
    Output,
    Question,
    SettingError,
    Source,
    Stage,
)

Vectors = Literal["glove", "student_embeddings", "sentence", "tfidf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What questions are compared by, and how they are grouped."""

    vectors: Annotated[
        Vectors,
        Doc(
            "A question's vector. glove: mean of its words' vectors from vectors_file (KPOD App. A); student_embeddings:"
            " mean of its tokens' input embeddings in `model`; sentence: `model` is an encoder, its last states"
            " averaged and brought to length 1; tfidf: counts of words, rare ones weigh more, brought to length 1."
        ),
    ]
    clusters: Annotated[int, Doc("K: number of groups (KPOD App. A)."), Ge(1)] = 5
    vectors_file: Annotated[
        str | None,
        Doc(
            "Word vectors in GloVe's text format: a word and its numbers a line; for vectors: glove."
        ),
        LocalPath(),
    ] = None
    max_features: Annotated[
        int | None,
        Doc(
            "For vectors: tfidf: only so many of the commonest words; null: all (not in the paper)."
        ),
        Ge(1),
    ] = None
    max_iter: Annotated[
        int,
        Doc("Most rounds of one start (scikit-learn's default; the paper names none)."),
        Ge(1),
    ] = 300
    num_init: Annotated[
        int,
        Doc("Random starts, of which the tightest is kept (our choice; the paper names none)."),
        Ge(1),
    ] = 10

    def __post_init__(self) -> None:
        if self.vectors == "glove" and self.vectors_file is None:
            raise SettingError(
                "vectors_file",
                "vectors: glove needs a file of word vectors",
                hint="name one in GloVe's text format, or choose other vectors, e.g. student_embeddings",
            )
        for setting, owner in (("vectors_file", "glove"), ("max_features", "tfidf")):
            if getattr(self, setting) is not None and self.vectors != owner:
                raise SettingError(
                    setting,
                    f"has no effect on vectors: {self.vectors}",
                    hint=f"leave it out, or set vectors to {owner}",
                )


class KMeans(Stage[Config]):
    """The cluster of each question, counted from 0, the largest first."""

    uses = "clustering.kmeans"
    version = 1
    seeded = "recipe"
    libraries = ("numpy", "scikit-learn", "torch", "transformers")
    questions = Input(Question, role="train")
    model = Input(Model, optional=True)
    clusters = Output(Assignment)

    @classmethod
    def sources(cls, config: Config) -> Mapping[str, Source]:
        """The file of word vectors, by content."""
        if config.vectors_file is None:
            return {}
        return {"vectors_file": LocalFile(config.vectors_file)}

    def run(self, ctx: Context[Config]) -> None:
        """Make a vector of each question, group them, and show what the groups hold."""
        from kpod.stages.clustering._grouping import check_enough, group, group_facts
        from kpod.stages.clustering._vectors import question_vectors

        questions = list(ctx.read(self.questions))
        check_enough(questions, num_clusters=ctx.config.clusters)
        vectors = question_vectors(ctx, questions, model=self.model)
        groups = group(
            vectors, num_clusters=ctx.config.clusters, max_iter=ctx.config.max_iter,
            num_init=ctx.config.num_init, seed=ctx.seed, threads=ctx.placement.threads,
        )  # fmt: skip
        with ctx.write(self.clusters) as out:
            for question, label in zip(questions, groups.labels, strict=True):
                out.add(Assignment(question_id=question.id, cluster=label))
        facts = group_facts(groups, questions)
        ctx.note("clusters", facts)
        ctx.note("inertia", groups.inertia)
        sizes = ", ".join(f"{fact['size']:,}" for fact in facts)
        ctx.note("summary", f"{len(questions):,} questions in clusters of {sizes}")
