"""Static word vectors from a file in GloVe's text format, read as a stream, and their mean over a question.

A line is a word and its numbers, parted by single spaces: `apple 0.12 -0.40 …`; there is no header. Source: Pennington,
Socher and Manning, "GloVe: Global Vectors for Word Representation", EMNLP 2014 (files glove.6B.300d.txt and the like).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.runner import Context, Question, StageError
from kpod.stages.clustering._vectors import check_all_found, question_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kpod.stages.clustering.kmeans import Config

_LINES_PER_TICK = 20_000


def mean_word_vectors(
    ctx: Context[Config], questions: Sequence[Question]
) -> NDArray[np.floating[Any]]:
    """Mean of the vectors of a question's words; a word that occurs twice counts twice, one that the file lacks not at all.

    Args:
        ctx: of the stage; its source `vectors_file` is read.
        questions: at least one.

    Returns:
        (N, D) float32, in the order of the questions.

    Raises:
        StageError: the file is damaged, or lacks every word of a question.
    """
    import numpy as np

    words = [question_words(question.text) for question in questions]
    path = ctx.source("vectors_file")
    vector_of = _word_vectors(ctx, path, {word for row in words for word in row})
    known = [[vector_of[word] for word in row if word in vector_of] for row in words]
    check_all_found(
        questions,
        [bool(row) for row in known],
        what=f"any word in {path.name}: {{ids}}\nuse vectors of the questions' language, trained on lower-case text,"
        " or set vectors to tfidf or student_embeddings",
    )
    num_words = sum(map(len, words))
    ctx.note("words_found_frac", sum(map(len, known)) / num_words)
    return np.stack([np.mean(row, axis=0, dtype=np.float64) for row in known]).astype(np.float32)


def _word_vectors(
    ctx: Context[Config], path: Path, wanted: set[str]
) -> dict[str, NDArray[np.floating[Any]]]:
    """The vectors of the wanted words; where a word stands twice, the first. Only their numbers are parsed."""
    import numpy as np

    size_b = path.stat().st_size
    keys = {word.encode(): word for word in wanted}
    found: dict[str, NDArray[np.floating[Any]]] = {}
    done_b, width = 0, None
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number % _LINES_PER_TICK == 0:
                ctx.progress(done_b, size_b, unit="bytes")
            done_b += len(line)
            width = width or _width(path, line)
            # A few words of the largest GloVe files have spaces in them: they have more fields, and we want none of them.
            if line.count(b" ") < width:
                raise _malformed(
                    path, number, f"{line.count(b' ')} numbers, where line 1 has {width}"
                )
            word = keys.get(line[: line.index(b" ")])
            if word is not None and word not in found:
                found[word] = np.asarray(_numbers(path, number, line, width), dtype=np.float64)
    if not done_b:
        raise StageError(f"{path}: empty; fetch the file of word vectors again")
    return found


def _width(path: Path, first_line: bytes) -> int:
    """How many numbers a word has, from the first line."""
    fields = first_line.split()
    if len(fields) < 3:
        kind = "the header of a word2vec file" if len(fields) == 2 else "no word with its numbers"
        raise _malformed(path, 1, f"{kind}: {first_line[:60].decode(errors='replace').strip()!r}")
    return len(fields) - 1


def _numbers(path: Path, number: int, line: bytes, width: int) -> list[float]:
    """The numbers of a line, all finite."""
    fields = line.split()[1:]
    try:
        values = [float(field) for field in fields]
    except ValueError as error:
        raise _malformed(path, number, str(error)) from error
    if len(values) != width or not all(map(math.isfinite, values)):
        what = f"{len(values)} numbers, where line 1 has {width}"
        raise _malformed(path, number, what if len(values) != width else "a number is not finite")
    return values


def _malformed(path: Path, number: int, what: str) -> StageError:
    return StageError(
        f"{path}:{number}: {what}\n"
        "needed: GloVe's text format, a word and its numbers parted by single spaces, no header; fetch the file again,"
        " or take the line out"
    )
