"""Two runs of the test plug-in beside each other, made once and copied for every test that breaks one of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kpod.runner.canonical import pretty_json
from kpod.runner.cli import main
from kpod.runner.seal import seal
from tests.chain import Chain, recipe

SCORES = "stages/scores/long/predictions.jsonl"


def school(count: int = 20, **settings: Any) -> dict[str, Any]:
    """Two pupils and their exam, on so many questions in each role."""
    plain = recipe(
        "school",
        questions={"uses": "tutor.questions", "with": {"count": count}},
        short={"uses": "tutor.pupil", "with": {"epochs": 2}},
        long={"like": "short", "with": {"epochs": 9}},
        scores={"uses": "tutor.exam", "in": {"models": ["short", "long"]}},
    )
    return {**plain, **settings}


@dataclass(frozen=True, slots=True, kw_only=True)
class Two:
    """Two runs that differ in one setting: `bad` is to be broken, `good` stands beside it."""

    runs: Path
    bad: Path
    good: Path

    def kpod(self, *words: str) -> int:
        """A command over these runs; whatever it raises that is not for people gets out."""
        return main([*words, "--runs", str(self.runs)])

    @property
    def question(self) -> str:
        """The id of a test question of both."""
        lines = (self.good / "stages/questions/test.jsonl").read_bytes().splitlines()
        return str(json.loads(lines[0])["id"])


@pytest.fixture(scope="session", name="made")
def made_fixture(tmp_path_factory: pytest.TempPathFactory) -> Two:
    """Both runs, made once."""
    folder = tmp_path_factory.mktemp("made")
    chain = Chain(folder=folder, journal=folder / "journal.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPOD_CHAIN_JOURNAL", str(chain.journal))
        bad = chain.run(school()).archive
        plain = school()
        plain["stages"]["long"]["with"]["epochs"] = 12
        good = chain.run(plain).archive
    return Two(runs=chain.runs, bad=bad.folder, good=good.folder)


@pytest.fixture(name="two")
def two_fixture(made: Two, chain: Chain) -> Two:
    """A copy of both, to be broken; `chain` runs recipes beside them."""
    shutil.copytree(made.runs, chain.runs)
    for path in chain.runs.rglob("*.jsonl"):
        path.chmod(0o644)
    return Two(runs=chain.runs, bad=chain.runs / made.bad.name, good=chain.runs / made.good.name)


def change_facts(run: Path, change: Callable[[dict[str, Any]], None], *, is_sealed: bool) -> None:
    """Write run.json with other facts; sealed anew, as whoever wrote it would, or as a hand leaves it."""
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    change(facts)
    if is_sealed:
        kept = {name: value for name, value in facts.items() if name not in {"seal", "files"}}
        facts = seal(kept, run)
    (run / "run.json").write_text(pretty_json(facts), encoding="utf-8")


def with_fact(name: str, value: object) -> Callable[[Path], None]:
    """A change of one fact, sealed."""
    return lambda run: change_facts(run, lambda facts: facts.update({name: value}), is_sealed=True)


def cut(run: Path) -> None:
    """Cut run.json."""
    path = run / "run.json"
    path.write_bytes(path.read_bytes()[:500])


def snapshot(run: Path) -> dict[str, bytes]:
    """All that lies in a run's folder."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file()
    }
