"""The pages in a real browser: nothing is complained of or fetched, filters and search show what matches, keyboard and phone do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import diff
from kpod.runner.comparing.page import write_page
from kpod.stages.report.html import Config, Html
from tests.e2e.browser import Browser, Page, chromium
from tests.stages.report_runs import method_run, sweep_runs

pytestmark = pytest.mark.slow

NAMES = ("report", "sweep", "diff")
MOST_BYTES = 3_000_000
SCORES = {"standard": [40, 41, 38, 42, 39], "kpod": [44, 43, 42, 46, 41]}
# What one can reach with the keyboard: what stands in a closed part of the page is not there yet.
REACHABLE = """[...document.querySelectorAll("a[href], summary, input, select, button, [tabindex='0']")]
    .filter(one => one.checkVisibility({checkOpacity: false, visibilityProperty: true})).length"""
HERE = "(at => at === document.body ? '' : `${at.tagName} ${[...document.querySelectorAll('*')].indexOf(at)}`)(document.activeElement)"
SHOWN = "[...{list}.children].filter(row => row.checkVisibility()).map(row => [...{list}.children].indexOf(row))"
# The lowest contrast of any text with what lies behind it, by WCAG 2.2, and that text; colours are laid over each other.
CONTRAST = """(() => {
  const parse = text => { const parts = text.match(/[\\d.]+/g).map(Number); return parts.length < 4 ? [...parts, 1] : parts; };
  const over = (top, below) => [0, 1, 2].map(at => top[at] * top[3] + below[at] * (1 - top[3])).concat(1);
  const light = colour => colour.slice(0, 3).map(part => part / 255).map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [.2126, .7152, .0722][at], 0);
  const behind = one => { const own = parse(getComputedStyle(one).backgroundColor); return own[3] === 1 ? own : one.parentElement ? over(own, behind(one.parentElement)) : [255, 255, 255, 1]; };
  let worst = [99, ""];
  for (const one of document.querySelectorAll("body *:not(svg *)")) {
    if (![...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()) || !one.checkVisibility()) continue;
    const back = behind(one), ink = over(parse(getComputedStyle(one).color), back), pair = [light(back), light(ink)].sort((a, b) => b - a);
    const ratio = (pair[0] + .05) / (pair[1] + .05);
    if (ratio < worst[0]) worst = [ratio, `${one.tagName}.${one.className}: ${one.textContent.slice(0, 60)}`];
  }
  return worst;
})()"""


@pytest.fixture(scope="module", name="browser")
def browser_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module", name="pages")
def pages_fixture(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    chromium()
    folder = tmp_path_factory.mktemp("pages")
    run = folder / "a_run"
    run.mkdir()
    archive = method_run(run)
    Html().render(archive, Config())
    sweep = folder / "a_sweep"
    sweep.mkdir()
    Html().render_sweep(sweep_runs(folder / "swept", SCORES, primary=["standard", "kpod"]), sweep, Config())  # fmt: skip
    write_page(diff(f"{run}:standard", f"{run}:kpod", runs=folder / "none"), folder / "diff.html")
    return {
        "report": run / "report.html",
        "sweep": sweep / "report.html",
        "diff": folder / "diff.html",
    }


@pytest.fixture(name="opened")
def opened_fixture(browser: Browser, pages: Mapping[str, Path]) -> Callable[..., Page]:
    return lambda name, **options: browser.open(pages[name], **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_complains_of_nothing_and_asks_for_nothing(
    opened: Callable[..., Page], pages: Mapping[str, Path], name: str
) -> None:
    page = opened(name)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    assert (page.complaints, page.requests, page.dialogs) == ([], [], [])
    assert page.evaluate("document.compatMode") == "CSS1Compat"
    assert pages[name].stat().st_size < MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_a_phone_scrolls_tables_in_their_own_box_and_never_the_page(
    opened: Callable[..., Page], name: str
) -> None:
    page = opened(name, width=400)
    for is_open in ("false", "true"):
        page.evaluate(f"document.querySelectorAll('details').forEach(one => one.open = {is_open})")

        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [400, 400]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_every_text_stands_out_from_what_lies_behind_it(
    opened: Callable[..., Page], name: str, scheme: str
) -> None:
    page = opened(name)
    page.media(scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    ratio, text = page.evaluate(CONTRAST)

    assert ratio >= 4.5, text


@pytest.mark.parametrize("name", NAMES)
def test_every_control_is_reached_with_the_tab_key_and_enter_opens_details(
    opened: Callable[..., Page], name: str
) -> None:
    page = opened(name)
    wanted = page.evaluate(REACHABLE)
    reached: dict[str, None] = {}
    for _ in range(wanted + 1):
        page.press("Tab")
        here = page.evaluate(HERE)
        if not here or here in reached:
            break
        reached[here] = None

    assert len(reached) == wanted
    if page.evaluate("document.querySelector('details:not([open]) > summary') !== null"):
        page.evaluate("document.querySelector('details:not([open]) > summary').focus()")
        page.press("Enter")
        assert page.evaluate("document.activeElement.parentElement.open")


def choose(page: Page, number: int, value: str) -> None:
    """Choose in one of the lists above the rows."""
    page.evaluate(
        f"(list => {{ list.value = {json.dumps(value)}; list.dispatchEvent(new Event('input', {{bubbles: true}})); }})"
        f"(document.querySelectorAll('.find select')[{number}])"
    )


def search(page: Page, words: str) -> None:
    """Write into the search box, in place of what stands there."""
    page.evaluate("document.querySelector('.find input').focus(), document.querySelector('.find input').select()")  # fmt: skip
    page.write(words) if words else page.evaluate(
        "(box => { box.value = ''; box.dispatchEvent(new Event('input', {bubbles: true})); })(document.activeElement)"
    )


def texts_of(row: Mapping[str, Any]) -> str:
    """All that a search looks at."""
    question = row["question"]
    texts = [question["text"], *question["choices"], question["gold"] or "none", question["id"]]
    texts += [text for said in row["replies"] for text in (said["text"], said["answer"] or "")]
    return "\n".join(texts).lower()


VERDICTS = {"wn": False, "r": True}


@pytest.mark.parametrize(
    ("change", "said", "words"),
    [
        ("", "", ""), ("fixed", "", ""), ("broken", "", ""), ("both right", "1:wn", ""), ("", "0:wn", ""), ("", "1:r", ""),
        ("", "", "APPLES 17"), ("", "", "alert('x')"), ("", "", "no such words"), ("fixed", "1:r", "ann 3"), ("", "0:wn", "<img &amp;"),
    ],
)  # fmt: skip
def test_filters_and_search_show_exactly_the_predictions_that_match(
    opened: Callable[..., Page], pages: Mapping[str, Path], change: str, said: str, words: str
) -> None:
    facts = json.loads(pages["report"].with_suffix(".json").read_text(encoding="utf-8"))
    (listing,) = facts["listings"]
    arm, _, code = said.partition(":")
    wanted = [
        number
        for number, row in enumerate(listing["rows"])
        if change in {"", row["change"]}
        and (not said or row["replies"][int(arm)]["is_correct"] is VERDICTS[code])
        and all(word in texts_of(row) for word in words.lower().split())
    ]
    page = opened("report")

    choose(page, 0, change)
    choose(page, 1, said)
    search(page, words)

    assert page.evaluate(SHOWN.format(list="document.querySelector('.rows')")) == wanted
    told = page.evaluate("document.querySelector('.find output').textContent")
    assert told == f"{len(wanted)} of {len(listing['rows'])}"
    assert page.complaints == []


def test_what_was_searched_for_comes_back_when_the_search_is_emptied(
    opened: Callable[..., Page],
) -> None:
    page = opened("report")
    search(page, "no such words")
    search(page, "")

    assert len(page.evaluate(SHOWN.format(list="document.querySelector('.rows')"))) == 60


@pytest.mark.parametrize(("kind", "words"), [("", ""), ("fixed", ""), ("broken", ""), ("", "ann 7"), ("fixed", "the answer is"), ("", "nothing like it")])  # fmt: skip
def test_filters_and_search_of_a_diff_show_exactly_the_flips_that_match(
    opened: Callable[..., Page], kind: str, words: str
) -> None:
    page = opened("diff")
    rows = page.evaluate(
        "[...document.querySelector('.flips').children].map(row => [row.dataset.is, [...row.querySelectorAll('.sought')].map(one => one.textContent).join('\\n')])"
    )
    wanted = [
        number
        for number, (is_kind, text) in enumerate(rows)
        if kind in {"", is_kind} and all(word in text.lower() for word in words.lower().split())
    ]

    choose(page, 0, kind)
    search(page, words)

    assert len(rows) > 5
    assert page.evaluate(SHOWN.format(list="document.querySelector('.flips')")) == wanted
    told = page.evaluate("document.querySelector('.find output').textContent")
    assert told == f"{len(wanted)} of {len(rows)}"


@pytest.mark.parametrize(("name", "rows"), [("report", ".rows"), ("diff", ".flips")])
def test_without_scripts_every_row_is_there_and_no_control_that_does_nothing(
    browser: Browser, tmp_path: Path, pages: Mapping[str, Path], name: str, rows: str
) -> None:
    html = pages[name].read_text(encoding="utf-8")
    quiet = tmp_path / "quiet.html"
    quiet.write_text(html.replace("<script>", "<script type='text/plain'>"), encoding="utf-8")
    page = browser.open(quiet)

    assert page.evaluate("document.querySelector('.find').checkVisibility()") is False
    shown = page.evaluate(SHOWN.format(list=f"document.querySelector('{rows}')"))
    assert len(shown) == page.evaluate(f"document.querySelector('{rows}').children.length")


def test_no_script_but_the_one_of_the_page_would_run(
    browser: Browser, tmp_path: Path, pages: Mapping[str, Path]
) -> None:
    for name in NAMES:
        html = pages[name].read_text(encoding="utf-8")
        pwned = tmp_path / f"{name}.html"
        pwned.write_text(html.replace("</h1>", "</h1><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>", 1), encoding="utf-8")  # fmt: skip
        page = browser.open(pwned)

        assert page.evaluate("window.pwned === undefined")
        assert any("Content Security Policy" in said for said in page.complaints)


def test_on_paper_the_search_and_the_long_list_are_left_out_until_something_is_chosen(
    opened: Callable[..., Page], tmp_path: Path
) -> None:
    page = opened("report")
    page.media(kind="print")
    shown = "['.find', '.rows', '.printed', 'nav'].map(name => document.querySelector(name).checkVisibility())"

    assert page.evaluate(shown) == [False, False, True, False]
    search(page, "apples 17")
    choose(page, 0, "fixed")
    assert page.evaluate(shown) == [False, True, False, False]
    page.paper(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
