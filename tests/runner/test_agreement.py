"""One setting of several stages: equal, filled in from whoever says it, or replaced by an input."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import RecipeError
from kpod.runner.document import dump
from kpod.runner.recipe import Recipe, load_recipe
from tests.chain import Chain, recipe

TAKES_PLAN = {"plan": "plan"}


def plan(**settings: Any) -> dict[str, Any]:
    """A plan."""
    return {"uses": "school.plan", "with": settings}


def pupil(source: dict[str, str] | None = None, **settings: Any) -> dict[str, Any]:
    """A pupil that takes its plan or budget from there."""
    return {"uses": "school.pupil", "in": source or {}, "with": settings}


def read(chain: Chain, **stages: Any) -> Recipe:
    """The recipe of these stages."""
    return load_recipe(chain.write(recipe(**stages)))


def epochs(found: Recipe) -> dict[str, Any]:
    """The epochs of every stage that has some."""
    return {
        stage.id: stage.config.epochs
        for stage in sorted(found.stages.values(), key=lambda stage: stage.id)
        if hasattr(stage.config, "epochs")
    }


def refused(chain: Chain, **stages: Any) -> list[str]:
    """The problems of a recipe, without the line that counts them."""
    with pytest.raises(RecipeError) as raised:
        read(chain, **stages)
    return [str(problem).replace(f"{chain.folder}/", "") for problem in raised.value.problems]


def test_a_plan_takes_the_epochs_of_its_pupil_and_says_whose_they_are(chain: Chain) -> None:
    found = read(chain, plan=plan(), pupil=pupil(TAKES_PLAN, epochs=7))

    assert epochs(found) == {"plan": 7, "pupil": 7}
    assert found.resolved()["stages"]["plan"]["with"] == {"epochs": 7}
    where = found.origins["stages.plan.with.epochs"]
    assert where.startswith("as stages.pupil.with.epochs (")
    assert where.endswith("recipe.yaml:13:15)")


def test_a_default_is_a_value_and_can_be_taken_over(chain: Chain) -> None:
    found = read(chain, plan=plan(), pupil=pupil(TAKES_PLAN))

    assert epochs(found) == {"plan": 3, "pupil": 3}
    assert found.origins["stages.plan.with.epochs"] == "as stages.pupil.with.epochs (default)"


def test_a_pupil_that_says_null_takes_the_epochs_of_its_plan(chain: Chain) -> None:
    found = read(chain, plan=plan(epochs=5), pupil=pupil(TAKES_PLAN, epochs=None))

    assert epochs(found) == {"plan": 5, "pupil": 5}


def test_the_demand_passes_through_a_stage_without_the_setting(chain: Chain) -> None:
    found = read(
        chain,
        plan=plan(),
        backwards={"uses": "school.backwards", "in": {"plan": "plan"}},
        pupil=pupil({"plan": "backwards"}, epochs=7),
    )

    assert epochs(found) == {"plan": 7, "pupil": 7}


def test_a_pupil_without_a_plan_keeps_its_own_epochs(chain: Chain) -> None:
    found = read(chain, plan=plan(epochs=5), one=pupil(TAKES_PLAN, epochs=5), two=pupil(epochs=2))

    assert epochs(found) == {"one": 5, "plan": 5, "two": 2}


def test_unequal_epochs_are_one_error_with_both_places_and_both_values(chain: Chain) -> None:
    (problem,) = refused(chain, plan=plan(epochs=5), pupil=pupil(TAKES_PLAN, epochs=7))

    assert problem == (
        "recipe.yaml:14:15  stages.pupil.with.epochs\n"
        "  got 7, but stages.plan.with.epochs is 5 at recipe.yaml:8:15, and the two are one setting\n"
        "  set both to one value, or leave stages.plan.with.epochs out"
    )


def test_an_unequal_default_is_called_one(chain: Chain) -> None:
    (problem,) = refused(chain, plan=plan(epochs=5), pupil=pupil(TAKES_PLAN))

    assert "got 3 (the default), but stages.plan.with.epochs is 5" in problem


def test_of_many_pupils_the_one_that_differs_is_told(chain: Chain) -> None:
    (problem,) = refused(
        chain,
        plan=plan(),
        a=pupil(TAKES_PLAN, epochs=9),
        b=pupil(TAKES_PLAN, epochs=7),
        c=pupil(TAKES_PLAN, epochs=7),
    )

    assert "stages.a.with.epochs\n  got 9, but stages.b.with.epochs is 7" in problem


def test_epochs_that_nobody_says_are_asked_for(chain: Chain) -> None:
    (problem,) = refused(chain, plan=plan(), pupil=pupil(TAKES_PLAN, epochs=None))

    assert problem == (
        "recipe.yaml:6:11  stages.plan.with.epochs\n"
        "  no value for epochs, which nothing else in this recipe says\n"
        "  set stages.plan.with.epochs, or stages.pupil.with.epochs: they agree"
    )


def test_a_filled_value_must_be_allowed_where_it_is_filled_in(chain: Chain) -> None:
    (low,) = refused(chain, plan=plan(), pupil=pupil(TAKES_PLAN, epochs=1))
    assert "stages.plan.with.epochs\n  got 1, but epochs" in low
    assert "must be >= 2 (the value of stages.pupil.with.epochs)" in low

    (high,) = refused(chain, plan=plan(epochs=9), pupil=pupil(TAKES_PLAN, epochs=None, fast=True))
    assert "fast takes at most 8, got 9 (the value of stages.plan.with.epochs)" in high


def test_a_budget_replaces_the_epochs_and_both_are_an_error(chain: Chain) -> None:
    found = read(chain, plan=plan(epochs=5), pupil=pupil({"budget": "plan"}, epochs=None))
    assert epochs(found) == {"plan": 5, "pupil": None}

    (problem,) = refused(chain, plan=plan(epochs=5), pupil=pupil({"budget": "plan"}, epochs=7))
    assert problem == (
        "recipe.yaml:14:15  stages.pupil.with.epochs\n"
        "  got both budget: plan (at recipe.yaml:12:15) and epochs: 7, and one replaces the other\n"
        "  set epochs: null, or take budget out of `in`"
    )


def test_a_default_gives_way_to_the_budget_so_that_like_and_null_work(chain: Chain) -> None:
    found = read(
        chain,
        plan=plan(),
        standard=pupil(TAKES_PLAN, epochs=7),
        budgeted={
            "like": "standard",
            "in": {"plan": None, "budget": "plan"},
            "with": {"epochs": None},
        },
    )

    assert epochs(found) == {"budgeted": None, "plan": 7, "standard": 7}
    assert found.origins["stages.budgeted.with.epochs"].startswith("replaced by stages.budgeted.in")


def test_without_a_budget_null_epochs_are_an_error(chain: Chain) -> None:
    (problem,) = refused(chain, pupil=pupil(epochs=None))

    assert problem == (
        "recipe.yaml:9:15  stages.pupil.with.epochs\n"
        "  got null, and no budget is wired that would replace it\n"
        "  set epochs, or name a source: in: {budget: …}"
    )


def test_with_a_plan_and_a_budget_the_plan_stands_alone(chain: Chain) -> None:
    both = pupil({"plan": "plan", "budget": "plan"}, epochs=None)

    assert epochs(read(chain, plan=plan(epochs=5), pupil=both)) == {"plan": 5, "pupil": None}
    (problem,) = refused(chain, plan=plan(), pupil=both)
    assert problem.endswith("set stages.plan.with.epochs")


def test_a_resolved_recipe_reads_back_to_the_same(chain: Chain) -> None:
    stages = {
        "plan": plan(),
        "one": pupil(TAKES_PLAN, epochs=7),
        "two": pupil({"budget": "plan"}, epochs=None),
    }
    resolved = read(chain, **stages).resolved()

    assert load_recipe(chain.write(dump(resolved))).resolved() == resolved


def test_the_filled_value_stands_in_the_key(chain: Chain) -> None:
    said = chain.run(recipe(plan=plan(epochs=7), pupil=pupil(TAKES_PLAN, epochs=7)))
    left_out = chain.run(recipe(plan=plan(), pupil=pupil(TAKES_PLAN, epochs=7)))

    assert said.executed == ["plan", "pupil"]
    assert left_out.executed == []
    assert left_out.archive.origins["stages.plan.with.epochs"].startswith("as stages.pupil")


@settings(max_examples=60)
@given(
    values=st.lists(st.sampled_from([None, 4, 5]), min_size=1, max_size=4), own=st.sampled_from([None, 4, 5])
)  # fmt: skip
def test_stages_agree_in_whatever_order_they_stand(
    chain: Chain, values: list[int | None], own: int | None
) -> None:
    stages = {f"p{index}": pupil(TAKES_PLAN, epochs=value) for index, value in enumerate(values)}
    stages["plan"] = plan(epochs=own)
    said = {value for value in (*values, own) if value is not None}
    told = set()
    for order in list(permutations(stages))[:3]:
        try:
            told.add(str(epochs(read(chain, **{name: stages[name] for name in order}))))
        except RecipeError as error:
            told.add(" ".join(sorted(problem.path for problem in error.problems)))

    assert len(told) == 1
    if len(said) == 1:
        assert told == {str(dict.fromkeys(sorted(stages), said.pop()))}
    else:
        assert "stages." in next(iter(told))
