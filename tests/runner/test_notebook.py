"""kpod from Python, and going on with a run that was stopped: the same objects that the commands use."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

import kpod.runner as kpod
from kpod.runner.archive import list_runs
from kpod.runner.assembly import find_recipe
from kpod.runner.cli import main
from kpod.runner.recipe import load_recipe
from tests.chain import Chain, recipe, seven, step


def test_a_recipe_is_planned_run_opened_and_compared(chain: Chain) -> None:
    path = chain.write(seven())
    session = kpod.load(path, settings={"stages.s3.with.add": 4}, runs=chain.runs)
    assert [found.status for found in session.plan()][:2] == ["run", "run?"]

    run = session.run()
    again = kpod.load(path, runs=str(chain.runs)).run()

    assert kpod.open_run(runs=chain.runs).name == again.name
    assert run.units["s3"].config["add"] == 4
    found = kpod.diff(run, again, runs=chain.runs)
    assert next(stage.unit for stage in found.stages if stage.causes) == "s3"


def test_records_of_a_run_are_rows_for_a_data_frame(chain: Chain) -> None:
    pandas = pytest.importorskip("pandas")
    run = kpod.load(chain.write(seven()), runs=chain.runs).run()

    frame = pandas.DataFrame(run.records("s1", "questions"))

    assert list(frame.columns)[:2] == ["id", "text"]
    assert len(frame) == run.units["s1"].manifest.outputs["questions"].num_records
    with pytest.raises(kpod.KpodError, match=r"has no records s1\.nope\nallowed: s1\.questions"):
        run.records("s1", "nope")


def test_scores_and_predictions_are_found_by_arm(chain: Chain) -> None:
    run = kpod.load(chain.write(seven()), runs=chain.runs).run()

    assert run.metrics() == {}
    with pytest.raises(KeyError):
        run.predictions("s3")


def test_a_run_that_failed_is_resumed_by_name_or_as_the_last(
    chain: Chain, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    plain = recipe(s1={"uses": "chain.numbers"}, s2=step("s1", "s2"), s3=step("s2", "s3", fail="x"))
    words = ["--runs", str(chain.runs)]
    assert not flag.exists()
    assert main(["run", str(chain.write(plain)), *words]) == 3
    capsys.readouterr()

    # The recipe file may be gone or changed: the run knows what it was.
    chain.write(seven())
    assert main(["resume", *words]) == 3
    told = capsys.readouterr()
    assert "failed: stage s3" in told.out
    assert "s2" in told.out
    assert "hit" in told.out

    done = chain.run(seven()).archive
    assert main(["resume", *words]) == 3  # that was another recipe: the failed one still waits
    assert main(["resume", done.name, *words]) == 0
    assert "there is nothing to resume" in capsys.readouterr().out


def test_a_run_that_another_went_on_with_is_not_resumed_again(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--runs", str(chain.runs)]
    chain.write(recipe(s1={"uses": "chain.numbers"}, s2=step("s1", "s2", die_at=2)))
    assert chain.kpod("run", "recipe.yaml").returncode == -signal.SIGKILL
    assert main(["resume", *words]) == 0
    num_runs = len(list_runs(chain.runs))
    capsys.readouterr()

    assert main(["resume", *words]) == 2

    assert "came to its end, or one after it with the same recipe did" in capsys.readouterr().err
    assert len(list_runs(chain.runs)) == num_runs


def test_what_the_readme_reads_is_an_output_of_the_stage_that_it_names() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    recipe = load_recipe(find_recipe("quickstart"))

    read = re.findall(r'run\.records\("(\w+)", "(\w+)"\)', text)

    assert read
    assert all(output in recipe.stages[stage].stage.outputs() for stage, output in read)
