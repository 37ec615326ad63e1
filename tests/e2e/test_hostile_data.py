"""A data set that means harm, through a whole recipe: no page runs it, no terminal obeys it, and all of it is shown as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import StageError, visible_text
from kpod.runner.archive import Archive, list_runs
from kpod.runner.cli import main
from kpod.runner.comparing.words import word_pieces
from kpod.runner.document import dump
from kpod.runner.session import RunOptions, Session
from kpod.stages.report.html import Config, Html
from tests.e2e.browser import Browser

pytestmark = pytest.mark.slow  # its recipe takes seconds

# What a page, a template, a terminal or a reader might take for something other than text.
HARM = {
    "script": "<script>window.__pwned = 1; alert(1)</script>", "closing": "</script></style></title></textarea>-->]]><b>",
    "attribute": "\"><img src=x onerror=alert(1)>' onmouseover='alert(1)", "template": "{{7*7}} {% raw %} ${7*7} #{7*7}",
    "address": "javascript:alert(1)", "entity": "&lt;b&gt; &#60;script&#62; &amp;amp;", "override": "ab\u202egnp.exe\u2066\u2069\u200fz",
    "control": "a\x00b\x07c\x08d\x1be\x7ff\x9b31mg\rh", "ansi": "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b[2J", "markup": "[red]loud[/red] [link=file:///etc/passwd]",
    "emoji": "👩\u200d👩\u200d👧 🏳️\u200d🌈 \U0001f1fa\U0001f1e6", "marks": "Z̷̢̛͔a̷͖͝l̶̰̈g̵̺̈o̷͚͐ \ufeff\u200b\u00ad", "long": "w" * 100_000, "words": "many words " * 4_000,
    "yaml": "- !!python/object:os.system [ls]\n...\n---\n%YAML", "formula": "=cmd|' /C calc'!A0", "path": "../../../../etc/passwd\\..\\con",
}  # fmt: skip
FILE = "\"><img src=x onerror=alert(1)>[red]'.jsonl"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def _lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def question(name: str, number: int, split: str) -> str:
    """One of the texts of the data set."""
    return f"{split} {number}: {HARM[name]} Ann has {number} eggs and finds 2. How many?"


def recipe(folder: Path, *, version: int) -> dict[str, Any]:
    """Everything of the method that needs no model, on rows that mean harm; the second version taught something else."""
    rows = {
        split: [
            {"q": question(name, number, split), "a": str(number + 2)}
            for number, name in enumerate(HARM)
        ]
        for split in ("train", "test")
    }
    place = folder / f"data {version}"
    place.mkdir()
    told = [
        {"question": row["q"], "rationale": f"{HARM[name]} Ann has {number} eggs. {number} + 2 = {number + 2}. Version {version} of {HARM[name]}. The answer is {number + 2}."}
        for number, (name, row) in enumerate(zip(HARM, rows["train"], strict=True))
    ]  # fmt: skip
    nasty = "".join(HARM[name] for name in HARM if name not in {"long", "words"})
    return {
        "kpod": 1, "name": "hostile", "description": f"{nasty} {version}", "seed": 1, "compare": {"primary": ["polly", "rex"]},
        "stages": {
            "questions": {"uses": "data.table", "with": {
                "train": str(_lines(place / FILE, rows["train"])), "test": str(_lines(place / f"test{FILE}", rows["test"])),
                "columns": {"question": ["q"], "answer": "a"}, "validation_frac": 0.0}},
            "rationales": {"uses": "teacher.recorded", "with": {"path": str(_lines(place / f"told{FILE}", told)), "label": nasty}},
            "verified": {"uses": "filter.verified", "with": {"require": ["answer"], "max_chars": 500_000}},
            "weights": {"uses": "weighting.rules"}, "difficulty": {"uses": "difficulty.step_count"},
            "clusters": {"uses": "clustering.kmeans", "with": {"vectors": "tfidf", "clusters": 2}},
            "curriculum": {"uses": "curriculum.progressive", "with": {"epochs": 4}},
            "polly": {"uses": "student.parrot", "with": {"name": nasty}},
            "rex": {"uses": "student.parrot", "with": {"name": f"{nasty}{'x' * version}"}, "in": {"weights": "weights", "curriculum": "curriculum"}},
            "scores": {"uses": "evaluate.parrot", "in": {"models": ["polly", "rex"]}},
            "report": {"uses": "report.html"},
        },
    }  # fmt: skip


@pytest.fixture(scope="module", name="runs")
def runs_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    for version in (1, 2):
        path = folder / f"{version}.yaml"
        path.write_text(dump(recipe(folder, version=version)), encoding="utf-8")
        assert main(["run", str(path), "--runs", str(folder / "runs")]) == 0
    return folder / "runs"


@pytest.fixture(scope="module", name="archives")
def archives_fixture(runs: Path) -> list[Archive]:
    """The two of the fixture; tests add runs of their own."""
    return list_runs(runs)[:2]


@pytest.fixture(scope="module", name="pages")
def pages_fixture(runs: Path, archives: list[Archive]) -> Mapping[str, Path]:
    one, other = archives
    assert main(["diff", one.name, other.name, "--runs", str(runs), "--html", str(runs / "diff.html")]) == 0  # fmt: skip
    sweep = runs / "sweep"
    sweep.mkdir()
    Html().render_sweep([one], sweep, Config())
    return {
        "report": one.folder / "report.html",
        "diff": runs / "diff.html",
        "sweep": sweep / "report.html",
    }


@pytest.fixture(scope="module", name="browser")
def browser_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def test_all_of_it_comes_through_unchanged(archives: list[Archive]) -> None:
    rows = list(archives[0].rows(archives[0].units["questions"], "test"))

    assert [row["text"] for row in rows] == [question(name, number, "test") for number, name in enumerate(HARM)]  # fmt: skip
    assert all(unit.status == "run" for unit in archives[0].units.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["report", "diff", "sweep"])
def test_no_page_runs_or_fetches_any_of_it(
    browser: Browser, pages: Mapping[str, Path], name: str
) -> None:
    page = browser.open(pages[name], width=400)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    assert page.evaluate("window.__pwned === undefined")
    assert (page.complaints, page.requests, page.dialogs) == ([], [], [])
    held = "document.querySelectorAll('img, iframe, object, embed, b, textarea, base, form, [onerror], [onmouseover]').length"
    assert page.evaluate(held) == 0
    assert page.evaluate("document.scripts.length") == (0 if name == "sweep" else 1)
    assert page.evaluate("[...document.links].map(to => to.protocol).filter(to => to !== 'file:')") == []  # fmt: skip
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert pages[name].stat().st_size < 3_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["report", "diff"])
def test_all_of_it_is_shown_as_text(browser: Browser, pages: Mapping[str, Path], name: str) -> None:
    page = browser.open(pages[name])
    text = page.evaluate("document.body.textContent")

    for kind in ("script", "closing", "attribute", "template", "address", "entity", "override", "control", "ansi", "markup", "emoji", "marks"):  # fmt: skip
        assert visible_text(HARM[kind]).replace("\r", "") in text, kind
    assert "characters left out …]" in text
    assert OBEYED.search(text.replace("\r", "")) is None


@pytest.mark.slow
def test_a_search_for_it_finds_the_question_that_holds_it(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    page = browser.open(pages["report"])
    page.evaluate("document.querySelector('.find input').focus()")
    page.write("<script>window.__pwned")

    assert page.evaluate("document.querySelector('.find output').textContent") == f"1 of {len(HARM)}"  # fmt: skip


def _first_question(archive: Archive, name: str) -> str:
    number = list(HARM).index(name)
    rows = list(archive.rows(archive.units["questions"], "train"))
    return str(rows[number]["id"])


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["runs"], "hostile"), (["show", "{a}"], "[red]loud[/red]"), (["show", "{a}", "description"], "{{{{7*7}}}}"),
        (["show", "{a}", "rationales.with"], "onmouseover"), (["show", "{a}", "q_{q}"], "⟦"), (["diff", "{a}", "{b}"], "[red]loud[/red]"),
        (["diff", "{a}:polly", "{a}:rex"], "fixed"), (["explain", "{a}", "rationales"], "[red]"), (["report", "{a}"], "report.html"),
    ],
)  # fmt: skip
def test_no_terminal_is_given_what_it_would_obey(
    runs: Path, archives: list[Archive], capsys: pytest.CaptureFixture[str], words: list[str], shown: str
) -> None:  # fmt: skip
    one, other = archives
    id_ = _first_question(one, "ansi")
    named = [word.format(a=one.name, b=other.name, q=id_) for word in words]
    shown = "[31mred" if shown == "⟦" else shown.format()

    assert main([*named, "--runs", str(runs)]) == 0

    said = capsys.readouterr()
    assert OBEYED.search(said.out + said.err) is None
    assert shown in said.out


@pytest.mark.parametrize(
    "words",
    [
        "run {r}", "run {r} --json", "plan {r}", "runs", "runs --json", "diff {a} {b} {a}", "sweep {r} seed=1", "sweep {r} seed=1 --json",
        "resume {a}", "rerun {a}", "rerun {a} --json", "export {a} --as cot --to {t}", "archive verify {a}", "cache ls", "accept {r} rationales --because x",
        "inspect-batch {r} polly", "run {r} --set {h}=1", "show {a} {h}", "show {h}", "diff {h} {a}", "diff {a}:{h} {a}:rex", "explain {a} {h}",
        "explain {r} rationales", "sweep {r} {h}", "{h}", "show {a} x {h}", "run {h}", "validate {h}", "stages {h}", "archive verify {h}", "cache unpin {h}",
        "report {h}", "export {h} --as cot", "batch export {r} rationales --to {t}",
    ],
)  # fmt: skip
def test_whatever_is_said_no_terminal_obeys_it(
    runs: Path, archives: list[Archive], capsys: pytest.CaptureFixture[str], tmp_path: Path, words: str
) -> None:  # fmt: skip
    one, other = archives
    meant = {
        "a": one.name,
        "b": other.name,
        "r": runs.parent / "1.yaml",
        "t": tmp_path / "out",
        "h": "a\x9b31m\x1b[2J\u202eb",
    }
    named = [word.format(**meant) for word in words.split(" ")]

    with suppress(SystemExit):  # a command line that is none
        main([*named, "--runs", str(runs)])

    said = capsys.readouterr()
    assert said.out + said.err
    assert OBEYED.search(said.out + said.err) is None


def test_events_as_json_hold_the_texts_themselves(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(runs.parent / "1.yaml"), "--runs", str(runs), "--json"]) == 0

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(HARM["control"] in str(value) for row in rows for value in row.values())


def test_a_path_with_a_nul_is_refused_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = recipe(tmp_path, version=1)
    plain["stages"]["questions"]["with"]["train"] = HARM["control"]
    path = tmp_path / "r.yaml"
    path.write_text(dump(plain), encoding="utf-8")

    assert main(["validate", str(path)]) == 2

    said = capsys.readouterr().err
    assert OBEYED.search(said) is None
    assert f"{path}:" in said
    assert "got 'a␀b" in said
    assert "allowed: a path without a NUL character" in said


def test_json_of_a_diff_is_whole_and_holds_the_texts_themselves(
    runs: Path, archives: list[Archive], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = archives

    assert main(["diff", one.name, other.name, "--runs", str(runs), "--json"]) == 0

    out = capsys.readouterr().out
    assert OBEYED.search(out) is None
    texts = [flip["question"] for score in json.loads(out)["scores"] for flip in score["flips"]]
    assert any(HARM["control"] in text for text in texts)


def test_report_json_is_whole_and_below_three_megabytes(archives: list[Archive]) -> None:
    path = archives[0].folder / "report.json"
    facts = json.loads(path.read_text(encoding="utf-8"))

    assert HARM["ansi"] in facts["provenance"]["description"]
    assert path.stat().st_size < 3_000_000


def test_a_lone_surrogate_is_refused_with_its_line(tmp_path: Path) -> None:
    plain = recipe(tmp_path, version=1)
    path = Path(plain["stages"]["questions"]["with"]["train"])
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], '{"q": "half \\ud800", "a": "1"}']), encoding="utf-8")
    (tmp_path / "r.yaml").write_text(dump(plain), encoding="utf-8")

    with pytest.raises(StageError, match=r":2: not JSON: .*surrogate"):
        Session(tmp_path / "r.yaml", RunOptions(runs=tmp_path / "runs", offline=True)).run()


def test_an_error_shows_what_it_names_and_obeys_none_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(dump({"kpod": 1, "name": "x", "stages": {"s": {"uses": "data.table", "with": {"\x1b[31m\u202ered": 1}}}}), encoding="utf-8")  # fmt: skip

    assert main(["validate", str(path)]) == 2

    said = capsys.readouterr().err
    assert "[31m" in said
    assert OBEYED.search(said) is None


def test_characters_are_shown_one_for_one_and_texts_without_them_are_left_alone() -> None:
    assert visible_text("a\x1b[0m\x00\x7f\x9b\u202eb\ud800") == "a␛[0m␀␡��b�"
    assert visible_text("one\r\ntwo\rthree\tfour\n") == "one\ntwo␍three\tfour\n"
    assert visible_text("Zoë 👩\u200d👧 \u200fשלום") == "Zoë 👩\u200d👧 \u200fשלום"


def test_a_summary_with_line_ends_stays_in_its_line_of_the_table(
    runs: Path, archives: list[Archive], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", archives[0].name, "--runs", str(runs)]) == 0

    lines = capsys.readouterr().out.splitlines()
    units = list(archives[0].units)
    assert [line.split()[0] for line in lines[3:]] == units
    assert "↵---↵%YAML" in next(line for line in lines if line.startswith("polly"))


@pytest.mark.parametrize("times", [3, 4_000])
def test_two_texts_are_told_in_pieces_that_hold_both_however_long_they_are(times: int) -> None:
    before, after = "many words " * times + "end", "many words " * times + "</ins> {+end+}"
    pieces = list(word_pieces(before, after))

    assert "".join(piece.text for piece in pieces if piece.kind != "new") == before
    assert "".join(piece.text for piece in pieces if piece.kind != "gone") == after
    assert [piece.kind for piece in pieces[:2]] == (["both", "new"] if times == 3 else ["gone", "new"])  # fmt: skip
