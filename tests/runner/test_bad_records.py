"""Records of a run that are gone, changed, or of another kpod, and questions that two runs do not share: told, never guessed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kpod.runner.archive import Archive, list_runs
from kpod.runner.cli import main
from kpod.runner.comparing.diff import diff
from kpod.runner.errors import KpodError
from kpod.runner.memo import hash_file
from kpod.runner.record import Prediction
from kpod.runner.registry import find_stage
from tests.chain import Chain
from tests.runner.two_runs import (  # noqa: F401 - fixtures are found by their names
    SCORES,
    Two,
    change_facts,
    made_fixture,
    school,
    snapshot,
    two_fixture,
)


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[raw.index(b'"text":"1"') + 8] = ord("2")
    path.write_bytes(bytes(raw))


def _add_row(path: Path) -> None:
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*rows, rows[0].replace(b'"question_id":"', b'"question_id":"f')]))


@pytest.mark.parametrize("change", [_flip, _add_row, lambda path: path.write_bytes(b"")])
def test_records_that_are_not_what_they_were_are_not_read(
    two: Two, change: Callable[[Path], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    change(two.bad / SCORES)
    before, name = snapshot(two.bad), two.bad.name

    for words in (
        ["diff", name, two.good.name], ["show", name, f"q_{two.question}"],
        ["export", f"{name}:long", "--as", "predictions", "--to", str(tmp_path / "rows")],
    ):  # fmt: skip
        assert two.kpod(*words) == 2, words
        said = (
            f"{SCORES} is not what it was when the run ended, so nothing is read from it\ntake it"
        )
        assert said in capsys.readouterr().err, words
    assert two.kpod("archive", "verify", name) == 3
    assert "scores[long]: predictions.jsonl was changed" in capsys.readouterr().err
    assert two.kpod("archive", "export", name, "--to", str(tmp_path / "file")) == 2
    assert "is not whole: scores[long]: predictions.jsonl was changed" in capsys.readouterr().err
    assert two.kpod("show", name) == 0
    assert two.kpod("rerun", name, "--verify") == 0
    told = capsys.readouterr()
    assert "scores[long]: predictions.jsonl was changed; results are compared by" in told.err
    assert "diverged" not in told.out
    assert not (tmp_path / "rows").exists()
    assert snapshot(two.bad) == before


def _empty_stage(run: Path) -> None:
    shutil.rmtree(run / "stages/scores/long")
    (run / "stages/scores/long").mkdir()


@pytest.mark.parametrize(
    "break_it", [lambda run: (run / SCORES).unlink(), _empty_stage, lambda run: shutil.rmtree(run / "stages")]
)  # fmt: skip
def test_what_is_gone_from_an_archive_is_named_and_made_again(
    two: Two, break_it: Callable[[Path], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    break_it(two.bad)
    name = two.bad.name

    for words in (
        ["diff", name, two.good.name],
        ["export", f"{name}:long", "--as", "predictions", "--to", str(tmp_path / "rows")],
    ):  # fmt: skip
        assert two.kpod(*words) == 2, words
        assert "is gone from the archive; run the same command again: " in capsys.readouterr().err
    assert two.kpod("archive", "verify", name) == 3
    assert "scores[long]: predictions.jsonl is gone" in capsys.readouterr().err
    assert two.kpod("archive", "export", name, "--to", str(tmp_path / "file")) == 2
    capsys.readouterr()
    two.kpod("show", name, f"q_{two.question}")
    assert (
        "scores[long].predictions is gone from the archive; it is left" in capsys.readouterr().err
    )
    assert two.kpod("show", name) == 0
    assert two.kpod("rerun", name) == 0
    assert two.kpod("rerun", name, "--verify") == 0
    capsys.readouterr()
    assert two.kpod("diff", "last", two.good.name) == 0


def test_what_no_stage_wrote_is_found_and_not_carried_on(
    two: Two, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (two.bad / "stages/scores/more.jsonl").write_text("{}\n", encoding="utf-8")

    assert two.kpod("archive", "verify", two.bad.name) == 3
    assert "stages/scores/more.jsonl was added" in capsys.readouterr().err
    assert two.kpod("archive", "export", two.bad.name, "--to", str(tmp_path / "file")) == 2
    assert not (tmp_path / "file").exists()


def test_predictions_of_another_kpod_are_told_by_file_and_number(
    two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    path = two.bad / SCORES
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "rule"}) + "\n" for row in rows), "utf-8")  # fmt: skip

    def digests(facts: dict[str, Any]) -> None:
        (unit,) = [unit for unit in facts["units"] if unit["name"] == "scores[long]"]
        unit["manifest"]["outputs"]["predictions"]["files"][0]["sha256"] = hash_file(path)

    change_facts(two.bad, digests, is_sealed=True)

    assert two.kpod("diff", two.bad.name, two.good.name) == 2
    assert f"{path}: record 1 is no Prediction of this kpod: " in capsys.readouterr().err
    with pytest.raises(KpodError, match="read it with the kpod that wrote it"):
        list(
            Archive(two.bad).read(Archive(two.bad).units["scores[long]"], "predictions", Prediction)
        )


def test_answers_that_were_changed_are_not_replayed(
    two: Two, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_stage("tutor.exam"), "determinism", "external")
    _flip(two.bad / SCORES)

    assert two.kpod("rerun", two.bad.name, "--verify") == 2
    told = capsys.readouterr().err
    assert "scores[long]: its archived answers cannot be replayed; --pay asks its endpoint" in told
    assert len(list_runs(two.runs)) == 2

    (two.bad / SCORES).unlink()
    assert two.kpod("rerun", two.bad.name, "--verify") == 2
    assert "is gone from the archive" in capsys.readouterr().err
    assert two.kpod("rerun", two.bad.name, "--verify", "--pay") == 0


def test_what_cannot_be_compared_any_more_is_diverged_and_told_why(
    two: Two, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exam: Any = find_stage("tutor.exam")
    honest = exam.run

    def drifting(self: Any, ctx: Any) -> None:
        honest(self, ctx)
        with (ctx.draft / "metrics.jsonl").open("ab") as file:  # what it wrote, and a line more
            file.write(b'{"more": 1}\n')

    monkeypatch.setattr(exam, "run", drifting)
    (two.bad / "stages/scores/long/metrics.jsonl").unlink()
    (two.bad / "stages/scores/short/metrics.jsonl").write_bytes(b"{")

    assert two.kpod("rerun", two.bad.name, "--verify") == 3
    told = capsys.readouterr().out
    assert "their digests differ, and what in them cannot be told: " in told
    assert "metrics.jsonl is no JSON" in told


def test_questions_that_only_one_run_asked_are_left_out_and_counted(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (chain.run(school(count)).archive for count in (20, 30))

    found = diff(a, b, runs=chain.runs)

    assert [(s.num_shared, s.num_only_a, s.num_only_b) for s in found.scores] == [(20, 0, 10)] * 2
    assert all(
        "on 20 shared questions" in score.sentence
        and "the question sets differ (0 only in A, 10 only in B: left out)" in score.sentence
        for score in found.scores
    )


def test_runs_that_share_no_question_are_not_paired_and_that_is_said_with_the_numbers(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    a = chain.run(school()).archive
    plain = school()
    plain["stages"]["scores"]["in"]["questions"] = "questions.validation"
    b = chain.run(plain).archive

    assert main(["diff", a.name, b.name, "--runs", str(chain.runs)]) == 0
    said = "they share no scored question (20 only in A, 20 only in B), so nothing can be compared"
    assert capsys.readouterr().out.count(said) == 2
    assert main(["diff", a.name, b.name, "--json", "--runs", str(chain.runs)]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert [(score["num_shared"], score["mean"], score["mcnemar_p"]) for score in scores] == [(0, None, None)] * 2  # fmt: skip
    page = chain.folder / "diff.html"
    assert main(["diff", a.name, b.name, "--html", str(page), "--runs", str(chain.runs)]) == 0
