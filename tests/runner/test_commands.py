"""What the commands print about runs, values, questions, leftovers and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kpod.runner.archive import list_runs
from kpod.runner.cli import main
from kpod.runner.commands import _journey
from kpod.runner.errors import KpodError, RecipeError
from kpod.runner.recipe import load_recipe
from tests.chain import Chain, recipe, seven, step


def _told(chain: Chain, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([words[0], *words[1:], "--runs", str(chain.runs)]) == 0
    return capsys.readouterr().out


def test_a_value_is_shown_with_the_place_it_came_from(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(seven())

    told = _told(chain, capsys, "show", "last", "s3.with.add")

    assert told.splitlines()[1].split()[:2] == ["stages.s3.with.add", "1"]
    assert "recipe.yaml:" in told


def test_a_question_is_followed_through_the_stages_with_or_without_its_prefix(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = chain.run(seven()).archive
    row = json.loads(
        archive.output_path(archive.units["s1"], "questions")
        .read_text(encoding="utf-8")
        .splitlines()[0]
    )

    told = {
        prefix: _told(chain, capsys, "show", "last", prefix + row["id"]) for prefix in ("q_", "")
    }

    assert told["q_"] == told[""]
    assert "s1.questions" in told["q_"]
    with pytest.raises(AssertionError):
        _told(chain, capsys, "show", "last", "q_00000000")


def _lesson(chain: Chain, capsys: pytest.CaptureFixture[str], start: str = "") -> str:
    """The journey of the second of three questions, or of what begins with `start`."""
    plain = recipe(
        s1={"uses": "chain.numbers", "with": {"count": 3}},
        taught={"uses": "school.lesson", "in": {"questions": "s1"}},
    )
    archive = chain.run(plain).archive
    row = json.loads(
        archive.output_path(archive.units["s1"], "questions").read_text("utf-8").splitlines()[1]
    )
    return _told(chain, capsys, "show", "last", start or f"q_{row['id']}")


def test_a_journey_tells_each_stage_in_the_order_of_the_graph(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _lesson(chain, capsys).splitlines()

    assert [line.split()[0] for line in told if line and not line.startswith(" ")][1:] == [
        "s1.questions", "taught.clusters", "taught.curriculum", "taught.difficulty", "taught.rationales",
        "taught.weights",
    ]  # fmt: skip


def test_a_journey_shows_weights_below_the_words_and_what_each_epoch_generates(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _lesson(chain, capsys)

    assert "  gold answer: 1  (numeric, train, chain)\n" in told
    assert "by book, ended by recorded, correct, answer 4\n    Two and two. Makes� four.\n" in told
    assert "    Two  and  two. Makes� four.\n    0.90 0.05 0.80 0.20   1.00\n" in told
    assert "    step 2    0.250  Makes� four.\n" in told
    assert "  cluster 1, with 1 of 3 questions in 2 clusters\n" in told
    assert (
        "  epoch 1 to 2: 1 given, 1 generated\n    input      Two and two.\n    generated  Makes� four.\n"
        "  epoch 3: 0 given, 2 generated\n"
    ) in told
    assert "\x1b" not in told


def test_a_record_of_an_unknown_type_is_shown_field_by_field(
    chain: Chain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_journey, "_KNOWN", {})

    told = _lesson(chain, capsys)

    assert "  answer: 1\n" in told
    assert "  cluster: 1\n" in told


def test_the_beginning_of_several_ids_is_refused_with_the_ids(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(recipe(s1={"uses": "chain.numbers", "with": {"count": 600}}))
    ids = [json.loads(line)["id"] for line in _questions(chain)]
    starts = [name[:4] for name in ids]
    start = next(start for start in starts if starts.count(start) > 1)

    assert main(["show", "last", f"q_{start}", "--runs", str(chain.runs)]) == 2
    said = capsys.readouterr().err
    assert f"q_{start} fits 2 questions" in said
    assert said.count(f"q_{start}") == 3


def _questions(chain: Chain) -> list[str]:
    archive = list_runs(chain.runs)[-1]
    path = archive.output_path(archive.units["s1"], "questions")
    return path.read_text(encoding="utf-8").splitlines()


def test_a_failed_run_is_listed_with_why_it_failed(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KpodError, match="no such luck"):
        chain.run(recipe(s1={"uses": "chain.numbers"}, s2=step("s1", "s2", fail="no such luck")))

    assert "failed: stage s2 (chain.step) no such luck" in _told(chain, capsys, "runs")


def test_a_failed_run_is_listed_with_recipe_and_seed_and_the_beginning_of_a_long_reason(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KpodError, match="luck"):
        chain.run(recipe(s1={"uses": "chain.numbers"}, s2=step("s1", "s2", fail="luck " * 60)))

    row = _told(chain, capsys, "runs").splitlines()[1]

    assert row.split()[1:4] == ["chain", "0", "failed:"]
    assert row.endswith("luck…") or row.endswith("…")
    assert len(row) < 200
    assert "luck " * 59 in _told(chain, capsys, "runs", "--json")


def test_settings_are_explained_as_recipes_write_them(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(recipe(s1={"uses": "chain.numbers", "with": {"count": 3}}))

    lines = _told(chain, capsys, "explain", "last", "s1").splitlines()

    assert "  config count = 3" in lines
    assert "  config path = null" in lines


def test_an_until_run_can_be_run_again_from_its_archive(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = {**seven(), "compare": {"primary": ["s3", "s6"]}}
    (chain.folder / "recipe.yaml").write_text(json.dumps(plain), encoding="utf-8")
    words = ["--runs", str(chain.runs)]

    assert main(["run", str(chain.folder / "recipe.yaml"), "--until", "s4", *words]) == 0
    assert main(["rerun", "last", *words]) == 0
    assert list_runs(chain.runs)[-1].facts["primary"] == []


def test_what_was_set_aside_without_a_reason_is_listed(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(seven())
    (chain.runs / ".store" / "quarantine" / "abc-123").mkdir(parents=True)

    assert "set aside: abc-123: no reason was written" in _told(chain, capsys, "cache", "ls")


def test_an_unknown_stage_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "data.gsm8"]) == 2
    assert "did you mean 'data.gsm8k'?" in capsys.readouterr().err


def test_a_stage_tells_each_setting_in_lines_that_fit_a_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["stages", "teacher.openai"]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert "  urls  list of text  required  (at least 1)" in lines
    assert "  temperature  number = 0.0  (>= 0, <= 2)" in lines
    assert "  price  settings or null = null" in lines
    assert "  prompt  settings" in lines
    start = lines.index("  samples  integer = 1  (>= 1)")
    assert lines[start + 1] == "      Texts a question; more than one needs a temperature above 0."
    settings = lines[lines.index("settings (required: a recipe must give it)") :]
    assert max(map(len, settings)) <= 120


def test_one_broken_plugin_does_not_hide_the_other_stages(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stages"]) == 0
    told = capsys.readouterr().out
    assert "chain.broken" in told
    assert "broken on purpose" in told
    assert "teacher.reference" in told


def test_an_invalid_recipe_stops_a_sweep_once(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    path = chain.folder / "recipe.yaml"
    path.write_text(json.dumps(recipe(s1={"uses": "chain.nothing"})), encoding="utf-8")

    assert main(["sweep", str(path), "seed=0..3", "--runs", str(chain.runs)]) == 2
    assert capsys.readouterr().err.count("unknown stage") == 1


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("s2.add=5", r"did you mean stages\.s2\.with\.add=5\?"),
        ("stgaes.s2.with.add=5", r"did you mean 'stages'\?"),
        ("placement.stages={s22: {threads: 1}}", r"no stage has the id 's22'"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_with_what_was_meant(
    setting: str, told: str, chain: Chain
) -> None:
    path = chain.folder / "recipe.yaml"
    path.write_text(json.dumps(seven()), encoding="utf-8")

    with pytest.raises(RecipeError, match=told):
        load_recipe(path, settings=[setting])


def test_a_recipe_of_any_suffix_takes_paths_from_its_own_folder(
    chain: Chain, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "r.recipe"
    path.write_text(
        json.dumps(recipe(s1={"uses": "chain.numbers", "with": {"path": "n.txt"}})),
        encoding="utf-8",
    )

    assert load_recipe(path).stages["s1"].config.path == str(tmp_path / "sub" / "n.txt")
