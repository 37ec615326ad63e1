"""One vector a question, made from its text alone. N questions, D width, V vocabulary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from kpod.runner import Context, Input, Model, Question, StageError

if TYPE_CHECKING:
    from kpod.stages.clustering.kmeans import Config

Matrix: TypeAlias = Any
"""(N, D): a numpy array, or a matrix of scipy.sparse, which has no types."""

# Letters and digits; apostrophes and hyphens part words, as they mostly do in GloVe's own vocabulary.
_WORD = re.compile(r"[^\W_]+")
_NEEDS_MODEL = ("student_embeddings", "sentence")


def question_words(text: str) -> list[str]:
    """The words of a text, in lower case and in order."""
    return _WORD.findall(text.lower())


def question_vectors(
    ctx: Context[Config], questions: Sequence[Question], *, model: Input[Model]
) -> Matrix:
    """The vectors that the settings ask for.

    Args:
        ctx: of the stage.
        questions: at least one.
        model: the stage's input of that name.

    Returns:
        (N, D), in the order of the questions; sparse for tfidf.

    Raises:
        StageError: `vectors` needs a model that is not wired, or one is wired that it would not use; a question has nothing
            that a vector could be made of.
    """
    kind = ctx.config.vectors
    if ctx.is_wired(model) != (kind in _NEEDS_MODEL):
        raise StageError(
            f"vectors: {kind} needs a model, and none is wired\nname one: in: {{model: ID}}"
            if kind in _NEEDS_MODEL
            else f"vectors: {kind} looks at no model, but one is wired\nleave model out of `in`, or set vectors to"
            f" {' or '.join(_NEEDS_MODEL)}"
        )
    if kind == "tfidf":
        return _tfidf(questions, ctx.config.max_features)
    if kind == "glove":
        from kpod.stages.clustering._glove import mean_word_vectors

        return mean_word_vectors(ctx, questions)
    if kind == "sentence":
        from kpod.stages.clustering._sentence import sentence_vectors

        return sentence_vectors(ctx, questions, model=model)
    return _mean_embeddings(ctx, questions, model)


def check_all_found(questions: Sequence[Question], is_found: Sequence[bool], *, what: str) -> None:
    """Every question has something that a vector can be made of.

    Args:
        questions: all.
        is_found: for each whether it has.
        what: what it should have had, and what to do where it has not.

    Raises:
        StageError: some have not.
    """
    lost = [question.id for question, is_one in zip(questions, is_found, strict=True) if not is_one]
    if lost:
        more = ", …" if len(lost) > 3 else ""
        raise StageError(
            f"{len(lost)} of {len(questions)} questions without {what.format(ids=', '.join(lost[:3]) + more)}"
        )


def _tfidf(questions: Sequence[Question], max_features: int | None) -> Matrix:
    """Counts of words times log of their rarity, rows of length 1 (scikit-learn's smoothed form)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    check_all_found(
        questions,
        [bool(question_words(question.text)) for question in questions],
        what="any word: {ids}\ndrop them in the data stage, or set vectors to student_embeddings",
    )
    vectorizer = TfidfVectorizer(analyzer=question_words, max_features=max_features)
    matrix_ND: Matrix = vectorizer.fit_transform([question.text for question in questions])
    check_all_found(
        questions,
        [bool(count) for count in matrix_ND.getnnz(axis=1)],
        what=f"any of the {max_features} commonest words: {{ids}}\nraise max_features, or leave it out",
    )
    return matrix_ND


def _mean_embeddings(
    ctx: Context[Config], questions: Sequence[Question], model: Input[Model]
) -> Matrix:
    """Mean of the rows of the model's input embedding for the question's tokens, without special ones."""
    import torch

    from kpod.stages._lm.artifact import locate
    from kpod.stages._lm.embeddings import input_embeddings
    from kpod.stages._lm.loading import load_tokenizer, set_threads

    set_threads(ctx.placement)
    files = locate(ctx, model)
    tokenizer = load_tokenizer(files)
    ids: list[list[int]] = tokenizer(
        [question.text for question in questions], add_special_tokens=False
    )["input_ids"]
    check_all_found(
        questions,
        [bool(row) for row in ids],
        what="any token: {ids}\ndrop them in the data stage; their text is empty to the model's tokenizer",
    )
    table_VD = input_embeddings(files)
    vectors_ND = torch.stack([table_VD[row].mean(dim=0) for row in ids])
    return vectors_ND.numpy()
