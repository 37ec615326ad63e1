"""The recipes of the method: the paper's numbers, what each arm differs in, and parts that no recipe forgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kpod.runner import document
from kpod.runner.recipe import Recipe, load_recipe
from kpod.runner.wiring import Wire

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
PARTS = sorted(RECIPES.glob("_*.yaml"))
WITH_ARMS = ("quickstart_ablation", "kpod_svamp_llama7b", "kpod_gsm8k_flan_t5_large")

# KPOD Sec. 4.1 and App. A. Epochs: GSM8K, CSQA, ASDiv, SVAMP. The rank of Flan-T5-Large is our choice.
STUDENTS: dict[str, tuple[str, str, int, float, tuple[int, int, int, int]]] = {
    "llama7b": ("student.causal_lm", "huggyllama/llama-7b", 64, 1e-5, (20, 20, 40, 40)),
    "flan_t5_xl": ("student.seq2seq_lm", "google/flan-t5-xl", 128, 5e-5, (100, 100, 100, 100)),
    "flan_t5_large": ("student.seq2seq_lm", "google/flan-t5-large", 128, 5e-5, (100, 100, 100, 100)),
}  # fmt: skip
DATA = ("gsm8k", "commonsense_qa", "asdiv", "svamp")
PAPER = [f"kpod_{data}_{student}" for data in DATA for student in STUDENTS]


def recipe(name: str) -> Recipe:
    return load_recipe(RECIPES / f"{name}.yaml")


def wired(loaded: Recipe, stage: str, name: str) -> str | None:
    wires = loaded.stages[stage].wires.get(name, ())
    return wires[0].stage if wires else None


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.stem)
def test_a_part_says_so_by_its_name_and_some_recipe_is_made_of_it(path: Path) -> None:
    node: Any = document.plain(document.load_document(path))
    users = [
        other
        for other in RECIPES.glob("[!_]*.yaml")
        if path.name in (document.plain(document.load_document(other)).get("extends") or ())
    ]

    assert set(node) <= {"stages", "compare"}
    assert len(users) >= 3


def test_there_is_a_recipe_for_each_data_set_and_student_of_the_paper() -> None:
    found = {path.stem for path in RECIPES.glob("kpod_*.yaml")}

    assert set(PAPER) == found


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_numbers_stand_in_its_recipes(name: str) -> None:
    data, _, student = name.removeprefix("kpod_").partition("_llama")
    if student:
        student = f"llama{student}"
    else:
        data, _, student = name.removeprefix("kpod_").partition("_flan")
        student = f"flan{student}"
    uses, model, rank, learning_rate, epochs = STUDENTS[student]
    loaded = recipe(name)
    standard, curriculum = loaded.stages["standard"], loaded.stages["curriculum"].config
    config = standard.config

    assert loaded.stages["questions"].uses == f"data.{data}"
    assert loaded.stages["student_lm"].config.name == model
    assert loaded.stages["predictor"].config.name == "google/flan-t5-large"
    assert (standard.uses, config.method, config.lora.rank) == (uses, "lora", rank)
    assert (config.learning_rate, config.batch_size) == (learning_rate, 4)
    assert (config.normalise, config.schedule, config.warmup_frac, config.weight_decay) == (
        "sequences", "constant", 0, 0,
    )  # fmt: skip
    assert config.grad_clip is None  # the null of a part that is extended is not lost
    assert {loaded.stages[key].config.steps for key in ("difficulty", "difficulty_plain")} == {"period"}  # fmt: skip
    assert config.epochs == curriculum.epochs == epochs[DATA.index(data)]
    assert curriculum.stages is None  # half of the epochs
    assert (curriculum.initial_frac, curriculum.growth, curriculum.diversity) == (0.3, 0.5, 12)
    clusters = loaded.stages["clusters"].config
    assert (clusters.vectors, clusters.clusters) == ("glove", 5)
    assert loaded.stages["weights"].config.alpha == 0.5
    assert loaded.stages["verified"].config.require == ()


@pytest.mark.parametrize("name", WITH_ARMS)
def test_statement_24_each_ablation_differs_from_kpod_in_what_its_name_says(name: str) -> None:
    loaded = recipe(name)
    full = {"weights": "weights", "curriculum": "curriculum"}
    expected = {
        "standard": {},
        "kpod": full,
        "no_sig": {"curriculum": "curriculum"},
        "no_sig_dif": {"weights": "weights", "curriculum": "curriculum_plain"},
        "no_prog": {"weights": "weights"},
        "no_div": {"weights": "weights", "curriculum": "curriculum_no_div"},
    }
    actual = {
        arm: {key: stage for key in full if (stage := wired(loaded, arm, key))} for arm in expected
    }

    assert expected == actual
    assert wired(loaded, "difficulty", "weights") == "weights"
    assert wired(loaded, "difficulty_plain", "weights") is None
    assert wired(loaded, "curriculum_plain", "difficulty") == "difficulty_plain"
    assert loaded.stages["curriculum_no_div"].config.diversity == 0
    assert len({repr(loaded.stages[arm].config) for arm in expected}) == 1
    assert {loaded.stages[arm].uses for arm in expected} == {loaded.stages["kpod"].uses}


@pytest.mark.parametrize(
    "name", [*PAPER, "gsm8k_qwen", "quickstart_ablation", "quickstart_harder", "svamp_smollm2_kpod"]
)
def test_every_arm_is_evaluated_and_the_comparison_is_kpod_against_standard(name: str) -> None:
    loaded = recipe(name)
    arms = {key for key, stage in loaded.stages.items() if stage.uses.startswith("student.")}
    scored = {wire.stage for wire in loaded.stages["scores"].wires["models"]}

    assert arms <= scored
    assert loaded.primary == ("standard", "kpod")
    assert wired(loaded, "standard_tokens", "budget") == "curriculum"
    assert loaded.stages["standard_tokens"].config.epochs is None


def test_the_controls_of_the_ablation_take_one_thing_from_kpod_each() -> None:
    loaded = recipe("quickstart_ablation")
    uses = {
        arm: loaded.stages[str(wired(loaded, arm, name))].uses
        for arm, name in (
            ("shuffled_weights", "weights"),
            ("random_weights", "weights"),
            ("reversed", "curriculum"),
            ("random_curriculum", "curriculum"),
        )
    }

    assert uses == {
        "shuffled_weights": "weighting.shuffled",
        "random_weights": "weighting.random",
        "reversed": "curriculum.reversed",
        "random_curriculum": "curriculum.random",
    }
    assert loaded.stages["shuffled"].wires["weights"] == (Wire("weights", "weights"),)
    assert wired(loaded, "shuffled_weights", "curriculum") == "curriculum"
    assert wired(loaded, "reversed", "weights") == "weights"


def test_the_harder_problems_are_made_of_words_that_the_shipped_base_knows() -> None:
    from kpod.stages.data._phrases import split_words
    from kpod.stages.data.word_problems import WordProblems
    from tests.stages.fakes import FakeContext

    config = recipe("quickstart_harder").stages["questions"].config
    assert config.forms == ("two_step", "three_step", "four_step")
    assert config.filler_words
    ctx: FakeContext[Any] = FakeContext(config=config)
    WordProblems().run(ctx)
    known = set((RECIPES / "quickstart_words.txt").read_text(encoding="utf-8").split())
    told = [(split_words(q.text), split_words(q.solution)) for q in ctx.rows("train")]

    assert {word for text, solution in told for word in (*text, *solution)} <= known
    # the base reads 256 tokens; evaluation lets it write 96, with 8 for the answer
    assert max(len(text) + len(solution) for text, solution in told) < 256 - 24
    assert max(len(solution) for _, solution in told) <= 96 - 8
