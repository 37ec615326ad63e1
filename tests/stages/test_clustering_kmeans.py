"""clustering.kmeans: four kinds of vectors, one grouping, and clear words where a vector cannot be made."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import LocalFile, Question, SettingError, StageError
from kpod.stages._lm.embeddings import input_embeddings
from kpod.stages._lm.loading import load_tokenizer
from kpod.stages.clustering._glove import mean_word_vectors
from kpod.stages.clustering._sentence import _mean_states, _token_ids
from kpod.stages.clustering._vectors import question_vectors, question_words
from kpod.stages.clustering.kmeans import Config, KMeans
from kpod.stages.model.pretrained import Config as PretrainedConfig
from kpod.stages.model.pretrained import Pretrained
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_files, tiny_model

FRUIT = ["apple pear", "pear plum apple", "plum apple", "Apple, pear: plum!"]
WHEELS = ["car bus", "bus van car", "van car?"]
GLOVE = """\
apple 1.0 0.0 0.1
pear 1.1 0.0 0.0
plum 0.9 0.1 0.0
car 0.0 1.0 0.0
bus 0.1 1.1 0.0
van 0.0 0.9 0.1
at name@domain.com 5 5 5
"""


def questions(texts: list[str]) -> list[Question]:
    return [
        Question.make(text, kind="numeric", answer="1", split="train", source="test")
        for text in texts
    ]


def run(
    texts: list[str],
    *,
    seed: int = 0,
    models: dict[str, Path] | None = None,
    glove: Path | None = None,
    **settings: Any,
) -> FakeContext[Config]:
    ctx = context(texts, seed=seed, models=models, glove=glove, **settings)
    KMeans().run(ctx)
    return ctx


def context(
    texts: list[str],
    *,
    seed: int = 0,
    models: dict[str, Path] | None = None,
    glove: Path | None = None,
    **settings: Any,
) -> FakeContext[Config]:
    file = {} if glove is None else {"vectors_file": str(glove)}
    return FakeContext(
        config=Config(**file, **settings),
        inputs={"questions": questions(texts)},
        sources={} if glove is None else {"vectors_file": glove},
        models=models,
        seed=seed,
    )


def labels(ctx: FakeContext[Config]) -> list[int]:
    return [row.cluster for row in ctx.rows("clusters")]


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    path = tmp_path / "glove.txt"
    path.write_text(GLOVE, encoding="utf-8")
    return path


def test_statement_27_questions_are_grouped_by_their_mean_word_vectors(glove: Path) -> None:
    ctx = run([*FRUIT, *WHEELS], vectors="glove", glove=glove, clusters=2)

    assert labels(ctx) == [0, 0, 0, 0, 1, 1, 1]
    assert [row.question_id for row in ctx.rows("clusters")] == [
        question.id for question in questions([*FRUIT, *WHEELS])
    ]
    assert ctx.notes["summary"] == "7 questions in clusters of 4, 3"


def test_statement_27_five_clusters_and_a_fixed_seed_are_what_the_paper_has(glove: Path) -> None:
    stream = np.random.default_rng(0)
    words = np.array(["apple", "pear", "plum", "car", "bus", "van"])
    texts = [" ".join(stream.choice(words, 5)) + f" {number}" for number in range(60)]

    first, again = (run(texts, vectors="glove", glove=glove, seed=7) for _ in range(2))

    assert Config(vectors="tfidf").clusters == 5
    assert sorted(set(labels(first))) == [0, 1, 2, 3, 4]
    assert first.rows("clusters") == again.rows("clusters")
    assert first.notes == again.notes


def test_mistake_8_1_06_the_vectors_called_glove_are_the_means_of_the_files_rows(glove: Path) -> None:  # fmt: skip
    ctx = context(["Apple apple car", "bus zebra"], vectors="glove", glove=glove, clusters=2)

    vectors = mean_word_vectors(ctx, questions(["Apple apple car", "bus zebra"]))  # type: ignore[arg-type]

    expected = [[2 / 3, 1 / 3, 0.2 / 3], [0.1, 1.1, 0.0]]
    assert vectors == pytest.approx(np.array(expected), abs=1e-6)
    assert ctx.notes["words_found_frac"] == pytest.approx(4 / 5)


def test_the_largest_cluster_comes_first_and_shows_what_lies_in_its_middle(glove: Path) -> None:
    ctx = run([*WHEELS, *FRUIT], vectors="glove", glove=glove, clusters=2)
    first, second = ctx.notes["clusters"]

    assert labels(ctx) == [1, 1, 1, 0, 0, 0, 0]
    assert (first["cluster"], first["size"], second["cluster"], second["size"]) == (0, 4, 1, 3)
    assert len(first["examples"]) == 3
    assert first["examples"][0] in {"pear plum apple", "Apple, pear: plum!"}  # the mean of the three words  # fmt: skip
    assert set(second["examples"]) == set(WHEELS)
    assert ctx.notes["inertia"] > 0


def test_the_seed_matters_to_nothing_where_the_groups_are_plain(glove: Path) -> None:
    runs = [run([*FRUIT, *WHEELS], vectors="glove", glove=glove, clusters=2, seed=s) for s in range(4)]  # fmt: skip

    assert len({tuple(labels(ctx)) for ctx in runs}) == 1


def test_questions_without_a_known_word_are_told_by_id(glove: Path) -> None:
    texts = ["apple", "Zwei Birnen", "pear", "drei", "vier?", "12 + 7"]
    unknown = [questions(texts)[place].id for place in (1, 3, 4)]

    with pytest.raises(StageError) as found:
        run(texts, vectors="glove", glove=glove, clusters=2)

    assert str(found.value) == (
        f"4 of 6 questions without any word in glove.txt: {', '.join(unknown)}, …\n"
        "use vectors of the questions' language, trained on lower-case text, or set vectors to tfidf or student_embeddings"
    )


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("apple 1 2 3\npear 1 2\n", 2, "2 numbers, where line 1 has 3"),
        ("apple 1 2 3\npear 1 2 3 4\n", 2, "4 numbers, where line 1 has 3"),
        ("apple 1 2 3\npear 1 two 3\n", 2, "could not convert string to float"),
        ("apple 1 2 3\npear 1 nan 3\n", 2, "a number is not finite"),
        ("2 3\napple 1 2 3\n", 1, "the header of a word2vec file: '2 3'"),
        ("apple\n", 1, "no word with its numbers: 'apple'"),
    ],
)
def test_a_malformed_line_is_told_by_file_and_line(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(StageError) as found:
        run(["apple", "pear"], vectors="glove", glove=path, clusters=2)
    assert str(found.value).startswith(f"{path}:{line}: ")
    assert says in str(found.value)
    assert "needed: GloVe's text format" in str(found.value)


def test_an_empty_file_of_vectors_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")

    with pytest.raises(StageError, match=r"empty.txt: empty; fetch"):
        run(["apple", "pear"], vectors="glove", glove=tmp_path / "empty.txt", clusters=2)


@given(st.text(max_size=60))
@settings(max_examples=50)
def test_words_are_lower_case_and_hold_nothing_but_letters_and_digits(text: str) -> None:
    assert all(word.isalnum() and word == word.lower() for word in question_words(text))
    assert question_words(f"{text} 12 Tom's") [-3:] == ["12", "tom", "s"]  # fmt: skip


def test_tfidf_groups_by_words() -> None:
    ctx = run([*FRUIT, *WHEELS], vectors="tfidf", clusters=2)

    assert labels(ctx) == [0, 0, 0, 0, 1, 1, 1]


def test_a_question_without_a_word_that_tfidf_keeps_is_told_by_id() -> None:
    lost = questions(["only"])[0].id

    with pytest.raises(StageError, match=f"1 of 4 questions without any of the 2 commonest words: {lost}\nraise max_features"):  # fmt: skip
        run(["apple pear", "pear apple x", "apple", "only"], vectors="tfidf", max_features=2, clusters=2)  # fmt: skip
    with pytest.raises(StageError, match=r"1 of 3 questions without any word: .*\ndrop them in the data stage"):  # fmt: skip
        run(["apple", "pear", "?!"], vectors="tfidf", clusters=2)


TINY = ["Tom has 4 apples .", "Anna buys 9 pens .", "Tom eats apples", "How many books are left ?"]


def test_student_embeddings_are_means_of_the_models_own_rows() -> None:
    ctx = context(TINY, vectors="student_embeddings", clusters=2, models={"model": tiny_model()})
    files = tiny_files()

    vectors = question_vectors(ctx, questions(TINY), model=KMeans.model)  # type: ignore[arg-type]

    ids = load_tokenizer(files)(TINY[1], add_special_tokens=False)["input_ids"]
    expected = input_embeddings(files)[ids].mean(dim=0)
    assert vectors.shape == (4, 32)
    assert vectors[1] == pytest.approx(expected.numpy(), abs=1e-6)
    KMeans().run(ctx)
    assert sorted(set(labels(ctx))) == [0, 1]


@cache
def bert() -> Path:
    """The folder of a tiny sentence encoder with random weights, in the layout of all-MiniLM-L6-v2."""
    import atexit
    import shutil
    import tempfile

    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = Path(tempfile.mkdtemp(prefix="kpod-bert-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = sorted({word for text in [*FRUIT, *WHEELS] for word in question_words(text)})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=8).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32, initializer_range=0.5,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def bert_context(texts: list[str], **settings: Any) -> FakeContext[Config]:
    """A context with the encoder taken in by model.pretrained."""
    taken = FakeContext(config=PretrainedConfig(folder=str(bert())), sources={"folder": bert()})
    Pretrained().run(taken)
    folder = taken.folders["model"]
    ctx = context(texts, vectors="sentence", models={"model": folder}, **settings)
    ctx.points[str(folder)] = bert()
    ctx.taken = taken  # type: ignore[attr-defined] # keeps its folder alive
    return ctx


def test_a_sentence_model_is_taken_in_and_gives_means_of_its_states_at_length_one() -> None:
    texts = [*FRUIT, *WHEELS, "apple"]
    ctx = bert_context(texts, clusters=2)

    vectors = question_vectors(ctx, questions(texts), model=KMeans.model)  # type: ignore[arg-type]

    from transformers import BertModel, BertTokenizerFast

    encoded = BertTokenizerFast.from_pretrained(bert())("apple", return_tensors="pt")
    with torch.inference_mode():
        mean = BertModel.from_pretrained(bert()).eval()(**encoded).last_hidden_state[0].mean(dim=0)
    assert vectors[-1] == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(8), abs=1e-5)
    KMeans().run(ctx)
    assert len(ctx.rows("clusters")) == 8


def test_a_sentences_vector_does_not_depend_on_the_longer_one_beside_it() -> None:
    from transformers import BertModel

    encoder = BertModel.from_pretrained(bert()).eval()
    (short, long), num_cut = _token_ids(bert(), questions(["apple", "pear plum apple"]))

    together = _mean_states(encoder, [short, long])

    assert num_cut == 0
    assert together[0].numpy() == pytest.approx(_mean_states(encoder, [short])[0].numpy(), abs=1e-5)


def test_texts_beyond_a_sentence_models_limit_are_counted() -> None:
    ctx = bert_context(["apple", "pear " * 30, "van bus"], clusters=2)

    KMeans().run(ctx)

    assert ctx.notes["num_cut"] == 1


def test_a_sentence_model_that_pools_otherwise_is_refused(tmp_path: Path) -> None:
    import shutil

    place = tmp_path / "cls"
    shutil.copytree(bert(), place)
    (place / "1_Pooling").mkdir()
    (place / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}), encoding="utf-8")  # fmt: skip
    ctx = bert_context(["apple", "pear"], clusters=2)
    ctx.points = dict.fromkeys(ctx.points, place)

    with pytest.raises(StageError, match="does not pool by the mean of its states"):
        KMeans().run(ctx)


@pytest.mark.parametrize("vectors", ["student_embeddings", "sentence"])
def test_vectors_that_need_a_model_say_so(vectors: str) -> None:
    with pytest.raises(StageError, match=f"vectors: {vectors} needs a model, and none is wired\nname one: in: "):  # fmt: skip
        run(["a", "b"], vectors=vectors, clusters=2)


def test_a_model_that_nothing_would_look_at_is_refused() -> None:
    with pytest.raises(StageError, match="vectors: tfidf looks at no model, but one is wired\nleave model out"):  # fmt: skip
        run(TINY, vectors="tfidf", clusters=2, models={"model": tiny_model()})


def test_more_clusters_than_questions_are_refused() -> None:
    with pytest.raises(StageError, match="2 distinct questions cannot make 5 clusters\nset clusters to at most 2"):  # fmt: skip
        run(["apple", "pear", "apple"], vectors="tfidf")
    with pytest.raises(StageError, match="there are no questions to cluster"):
        run([], vectors="tfidf")


def test_more_clusters_than_vectors_that_differ_are_refused(glove: Path) -> None:
    with pytest.raises(StageError, match="only 2 of the 4 questions' vectors differ, too few for 3 clusters"):  # fmt: skip
        run(["apple", "Apple!", "apple?", "car"], vectors="glove", glove=glove, clusters=3)


def test_the_file_of_vectors_is_a_source_and_belongs_to_glove() -> None:
    config = Config(vectors="glove", vectors_file="g.txt")

    assert KMeans.sources(config) == {"vectors_file": LocalFile("g.txt")}
    assert KMeans.sources(Config(vectors="tfidf")) == {}
    with pytest.raises(SettingError, match="vectors_file: vectors: glove needs a file of word vectors; name one"):  # fmt: skip
        Config(vectors="glove")
    with pytest.raises(SettingError, match="vectors_file: has no effect on vectors: tfidf; leave it out"):  # fmt: skip
        Config(vectors="tfidf", vectors_file="g.txt")
    with pytest.raises(SettingError, match="max_features: has no effect on vectors: sentence"):
        Config(vectors="sentence", max_features=10)


@given(st.lists(st.sampled_from("abcdefg"), min_size=12, max_size=40), st.integers(1, 4), st.integers(0, 5))  # fmt: skip
@settings(max_examples=10, deadline=None)
def test_every_question_is_in_a_cluster_and_the_clusters_are_numbered_by_size(
    letters: list[str], num_clusters: int, seed: int
) -> None:
    texts = [f"{letter} {'pqrst'[place % 5]} n{place}" for place, letter in enumerate(letters)]

    found = labels(run(texts, vectors="tfidf", clusters=num_clusters, seed=seed, num_init=1))

    sizes = [count for _, count in sorted(Counter(found).items())]
    assert len(found) == len(texts)
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == num_clusters
