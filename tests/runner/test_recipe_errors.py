"""Every mistake in a recipe, and what a person reads about it: exact texts in tests/golden/errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kpod.runner import registry
from kpod.runner.cli import main
from tests.chain import Chain

GOLDEN = Path(__file__).parents[1] / "golden" / "errors"

HEAD = "kpod: 1\nname: demo\nstages:\n"
GOOD = HEAD + "  numbers: {uses: chain.numbers, with: {count: 3}}\n"
BASE = "kpod: 1\nname: base\nstages:\n  numbers: {uses: chain.numbers, with: {count: 3}}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A recipe with a mistake.

    Args:
        recipe: the text of recipe.yaml.
        words: of the command line behind the recipe.
        files: other files, by name.
        code: what the process returns.
    """

    recipe: str
    words: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    code: int = 2


TWO_SOURCES = "  one: {uses: chain.numbers}\n  two: {uses: chain.numbers, with: {count: 4}}\n"

MISTAKES = {
    "unknown_top_key": Mistake(recipe=GOOD + "stagse: {}\n"),
    "missing_name": Mistake(recipe="kpod: 1\nstages:\n  numbers: {uses: chain.numbers}\n"),
    "no_stages": Mistake(recipe="kpod: 1\nname: demo\nstages: {}\n"),
    "other_version": Mistake(recipe=GOOD.replace("kpod: 1", "kpod: 2")),
    "bad_name": Mistake(recipe=GOOD.replace("demo", "../demo")),
    "bad_id": Mistake(recipe=GOOD.replace("  numbers:", "  Numbers-1:")),
    "dotted_id": Mistake(recipe=GOOD.replace("  numbers:", "  my.numbers:")),
    "unknown_key": Mistake(recipe=GOOD.replace("count", "cuont")),
    "wrong_type": Mistake(recipe=GOOD.replace("3", "three")),
    "list_for_a_mapping": Mistake(recipe=GOOD.replace("{count: 3}", "[count: 3]")),
    "text_for_a_list": Mistake(recipe=HEAD + "  far: {uses: chain.count, with: {}}\ncompare: {primary: far}\n"),
    "number_in_quotes": Mistake(recipe=GOOD.replace("3", "'3'")),
    "out_of_range": Mistake(recipe=GOOD.replace("3", "-3")),
    "exponent_is_a_number": Mistake(recipe=GOOD.replace("3", "1e-5")),
    "duplicate_key": Mistake(recipe=GOOD + "name: again\n"),
    "duplicate_stage": Mistake(recipe=GOOD + "  numbers: {uses: chain.numbers}\n"),
    "missing_source": Mistake(
        recipe=GOOD.replace("count: 3", "path: data/none.txt")
        + "  more: {uses: chain.numbers, with: {path: data/nothing.txt}}\n"
    ),
    "missing_package": Mistake(recipe=HEAD + "  base: {uses: chain.model, with: {package: not_there}}\n"),
    "missing_package_file": Mistake(
        recipe=HEAD + "  base: {uses: chain.model, with: {package: kpod_chain, file: sub/none.txt}}\n"
    ),
    "hub_offline": Mistake(
        recipe=HEAD + "  base: {uses: chain.model, with: {hub: nobody/nothing}}\n"
    ),
    "cycle": Mistake(
        recipe=HEAD + "  a: {uses: chain.step, in: {questions: b}}\n  b: {uses: chain.step, in: {questions: a}}\n"
        "  behind: {uses: chain.step, in: {questions: b}}\n"
    ),
    "own_output": Mistake(recipe=HEAD + "  a: {uses: chain.step, in: {questions: a}}\n"),
    "ambiguous": Mistake(recipe=HEAD + TWO_SOURCES + "  next: {uses: chain.step}\n"),
    "no_candidate": Mistake(recipe=HEAD + "  next: {uses: chain.step}\n"),
    "several_sources_for_one": Mistake(
        recipe=HEAD + TWO_SOURCES + "  next: {uses: chain.step, in: {questions: [one, two]}}\n"
    ),
    "element_twice": Mistake(
        recipe=HEAD + TWO_SOURCES + "  next: {uses: chain.count, in: {questions: [one, one.questions]}}\n"
    ),
    "unknown_stage": Mistake(recipe=GOOD + "  next: {uses: chain.stpe}\n"),
    "broken_plugin": Mistake(recipe=GOOD + "  next: {uses: chain.broken}\n"),
    "unknown_input": Mistake(recipe=GOOD + "  next: {uses: chain.step, in: {question: numbers}}\n"),
    "unknown_source": Mistake(recipe=GOOD + "  next: {uses: chain.step, in: {questions: nubmers}}\n"),
    "unknown_output": Mistake(recipe=GOOD + "  next: {uses: chain.step, in: {questions: numbers.train}}\n"),
    "wrong_record": Mistake(
        recipe=GOOD + "  all: {uses: chain.count, in: {questions: numbers}}\n  next: {uses: chain.step, in: {questions: all.counts}}\n"
    ),
    "wrong_stage": Mistake(
        recipe=GOOD + "  all: {uses: chain.count, in: {questions: numbers}}\n  next: {uses: chain.step, in: {questions: all}}\n"
    ),
    "source_is_a_view": Mistake(
        recipe=GOOD + "  page: {uses: chain.page}\n  next: {uses: chain.step, in: {questions: page}}\n"
    ),
    "view_with_inputs": Mistake(recipe=GOOD + "  page: {uses: chain.page, in: {questions: numbers}}\n"),
    "view_with_settings": Mistake(recipe=GOOD + "  page: {uses: chain.page, with: {title: x}}\n"),
    "like_unknown": Mistake(recipe=GOOD + "  more: {like: nubmers}\n"),
    "like_circle": Mistake(recipe=HEAD + "  a: {like: b}\n  b: {like: a}\n"),
    "like_and_uses": Mistake(recipe=GOOD + "  more: {like: numbers, uses: chain.numbers}\n"),
    "unknown_primary": Mistake(recipe=GOOD + "compare: {primary: [numbers, numbres]}\n"),
    "not_yaml": Mistake(recipe="kpod: 1\nname: [demo\nstages: {\n"),
    "tabs": Mistake(recipe="kpod: 1\nstages:\n\tnumbers: 1\n"),
    "not_text": Mistake(recipe="kpod: 1\nname: \x00\x01\n"),
    "a_list": Mistake(recipe="- kpod\n- 1\n"),
    "a_word": Mistake(recipe="hello\n"),
    "empty": Mistake(recipe=""),
    "a_tag": Mistake(recipe=GOOD.replace("count: 3", "count: !!python/object/apply:os.system [id]")),
    "alias_bomb": Mistake(
        recipe="a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(9))
    ),
    "extends_missing": Mistake(recipe="extends: [none.yaml]\n" + GOOD),
    "extends_misspelt": Mistake(recipe="extends: quikstart\n" + GOOD),
    "extends_circle": Mistake(
        recipe="extends: [base.yaml]\n" + GOOD, files={"base.yaml": "extends: [recipe.yaml]\n" + BASE}
    ),
    "extends_outside": Mistake(recipe="extends: [../outside.yaml]\n" + GOOD, files={"../outside.yaml": BASE}),
    "extends_link_outside": Mistake(recipe="extends: [/etc/hostname]\n" + GOOD),
    "extends_number": Mistake(recipe="extends: [3]\n" + GOOD),
    "extended_stage_misspelt": Mistake(
        recipe="extends: base.yaml\nname: demo\nstages:\n  nubmers: {with: {count: 4}}\n", files={"base.yaml": BASE}
    ),
    "set_stage_misspelt": Mistake(recipe=GOOD, words=("--set", "stages.nubmers.with.count=4")),
    "setting_beside_with": Mistake(recipe=GOOD.replace("with: {count: 3}", "count: 3")),
    "set_beside_with": Mistake(recipe=GOOD, words=("--set", "stages.numbers.count=4")),
    "input_beside_in": Mistake(recipe=GOOD + "  next: {uses: chain.step, questions: numbers}\n"),
    "like_means_another": Mistake(recipe=GOOD + "  number: {like: numbrs}\n"),
    "error_in_a_base": Mistake(
        recipe="extends: [base.yaml]\nname: demo\n", files={"base.yaml": BASE.replace("count", "cuont")}
    ),
    "secret_value": Mistake(recipe=GOOD + "description: sk-abcdefghijklmnop1234\n"),
    "secret_key": Mistake(recipe=GOOD.replace("count: 3", "api_key: abcdef")),
    "secret_in_set": Mistake(recipe=GOOD, words=("--set", "description=hf_abcdefghijklmnop1234")),
    "set_without_equals": Mistake(recipe=GOOD, words=("--set", "stages.numbers.with.count")),
    "set_wrong_type": Mistake(recipe=GOOD, words=("--set", "stages.numbers.with.count=many")),
    "set_unknown": Mistake(recipe=GOOD, words=("--set", "stages.numbers.with.cuont=3")),
    "set_below_a_number": Mistake(recipe=GOOD, words=("--set", "stages.numbers.with.count.x=3")),
    "until_unknown": Mistake(recipe=GOOD, words=("--until", "nubmers")),
    "force_a_view": Mistake(recipe=GOOD + "  page: {uses: chain.page}\n", words=("--force", "page")),
    "force_unknown": Mistake(recipe=GOOD, words=("--force", "nubmers")),
    "several": Mistake(
        recipe=HEAD + "  one: {uses: chain.numbers, with: {count: -1, cuont: 2}}\n  two: {uses: chain.stpe}\n"
        "  three: {uses: chain.step, with: {add: 1.5, modulo: 0}}\n"
    ),
    "several_wires": Mistake(
        recipe=HEAD + TWO_SOURCES + "  next: {uses: chain.step}\n  page: {uses: chain.page, in: {x: one}}\n"
        "compare: {primary: [one, three]}\n"
    ),
    "stage_fails": Mistake(
        recipe=GOOD + "  next: {uses: chain.step, with: {fail: nothing is left to train on}}\n", code=3
    ),
}  # fmt: skip


@pytest.fixture
def place(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder to stand in, where only the test plug-in's stages are known."""
    folder = chain.folder / "project"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(registry, "STAGES", {})
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_where_it_stands_and_how_to_mend_it(
    name: str,
    place: Path,
    chain: Chain,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    mistake = MISTAKES[name]
    for file, text in {**mistake.files, "recipe.yaml": mistake.recipe}.items():
        (place / file).write_text(text, encoding="utf-8")

    code = main(["run", "recipe.yaml", *mistake.words])

    told = capsys.readouterr().err.replace(str(chain.folder), "FOLDER")
    golden = GOLDEN / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(told, encoding="utf-8", newline="\n")
    assert golden.read_text(encoding="utf-8") == told
    assert mistake.code == code
    assert "Traceback" not in told
    assert not any(secret in told for secret in ("abcdef", "sk-", "hf_"))
    assert [line for line in chain.executions() if line != "step"] == [] or mistake.code == 3


def test_the_golden_texts_are_those_of_the_mistakes() -> None:
    assert sorted(MISTAKES) == sorted(path.stem for path in GOLDEN.glob("*.txt"))


def test_a_huge_recipe_is_refused_at_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "recipe.yaml"
    with path.open("w", encoding="utf-8") as file:
        file.write(GOOD)
        file.truncate(50_000_000)

    code = main(["run", "recipe.yaml"])

    assert code == 2
    told = capsys.readouterr().err
    assert "recipe.yaml\n  the file has 50,000,000 bytes, which is no recipe\n" in told


def test_a_misspelt_name_of_a_shipped_recipe_is_told_with_the_nearest(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.is_dir()
    assert main(["run", "quikstart"]) == 2
    assert capsys.readouterr().err == (
        "quikstart\n  there is no such file, nor does a recipe of that name ship with kpod\n"
        "  did you mean 'quickstart'?\n1 error; nothing was run\n"
    )


def test_a_recipe_that_is_not_there_names_the_nearest(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "recipe.yaml").write_text(GOOD, encoding="utf-8")

    assert main(["run", "recpie.yaml"]) == 2
    assert (
        capsys.readouterr().err
        == "recpie.yaml\n  there is no such file\n  did you mean 'recipe.yaml'?\n1 error; nothing was run\n"
    )


def test_an_exponent_without_a_point_is_a_number_where_one_is_wanted(chain: Chain) -> None:
    session = chain.session(
        HEAD + "  a: {uses: chain.numbers}\n  b: {uses: chain.step, with: {pause_s: 1e-5}}\n"
    )

    assert session.recipe.stages["b"].config.pause_s == 1e-5


def test_a_crash_of_a_stage_shows_where_and_returns_three(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "recipe.yaml").write_text(HEAD + "  a: {uses: chain.crash}\n", encoding="utf-8")

    code = main(["run", "recipe.yaml"])

    told = capsys.readouterr().err
    assert code == 3
    assert 'crash.py", line' in told
    assert told.endswith(
        "stage a (chain.crash) failed: ZeroDivisionError: division by zero\n"
        "what came before it is kept; the same command continues there\n"
    )
