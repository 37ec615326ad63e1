"""What settings and wires cannot do together is told with the recipe, at its place, before any stage runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpod.runner import RecipeError
from kpod.runner.recipe import load_recipe

RECIPE = """\
kpod: 1
name: checked
stages:
  questions: {uses: data.word_problems, with: {num_train: 8, num_validation: 4, num_test: 4}}
  base: {uses: model.pretrained, with: {folder: none}}
  rationales: {uses: teacher.reference}
  weights: {uses: weighting.uniform}
  plan: {uses: curriculum.progressive}
  clusters: {uses: clustering.kmeans, in: {model: base}, with: {vectors: student_embeddings}}
  difficulty: {uses: difficulty.step_count}
  student:
    uses: student.causal_lm
    in: {model: base}
    with:
      epochs: 4
  other: {like: student}
"""


@pytest.mark.parametrize(
    ("change", "at", "message", "hint"),
    [
        (
            ("      epochs: 4\n", "      epochs: 4\n      validate: {metric: accuracy, patience: 1}\n"),
            "recipe.yaml:16:17",
            "validate: validate or validation_rationales is given, but no validation questions are wired",
            "wire them, e.g. in: {validation: questions.validation}, or drop both",
        ),
        (
            ("in: {model: base}\n    with:\n      epochs: 4\n", "in: {model: base, validation: questions.validation}\n    with:\n      validate: {metric: loss}\n"),
            "recipe.yaml:15:17",
            "validate: validate.metric is loss, but validation_rationales is not wired",
            "wire rationales of the validation questions, or set metric: accuracy",
        ),
        (
            ("in: {model: base}\n    with:\n      epochs: 4\n", "in: {model: base, weights: weights}\n    with:\n      prompt: {name: answer_only}\n"),
            "recipe.yaml:15:15",
            "prompt: the prompt 'answer_only' has no rationale, but weights of rationales is wired",
            "unwire with in: {weights: null}, or use a prompt with {rationale}",
        ),
    ],
)  # fmt: skip
def test_a_student_s_contradictions_are_told_once_at_their_place_however_many_arms_are_like_it(
    tmp_path: Path, change: tuple[str, str], at: str, message: str, hint: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace(*change), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)

    (problem,) = caught.value.problems
    assert problem.path.startswith("stages.student.with.")
    assert str(problem.where).endswith(at)
    assert (problem.message, problem.hint) == (message, hint)


def test_a_recipe_without_contradictions_loads(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    text = RECIPE.replace("in: {model: base}\n    with:", "in: {model: base, validation: questions.validation, curriculum: plan}\n    with:")  # fmt: skip
    path.write_text(text + "compare: {primary: [student, other]}\n", encoding="utf-8")

    recipe = load_recipe(path, settings=["stages.student.with.validate={patience: 2}"])

    assert recipe.stages["other"].config.validate.patience == 2
