"""Views rendered into an archive; never keyed. A page of a run in which nothing ran is the earlier page, linked."""

from __future__ import annotations

import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from kpod.runner.archive import Archive
from kpod.runner.canonical import digest_of
from kpod.runner.recipe import Recipe, RecipeView
from kpod.runner.store import Store

PAGES = ("report.html", "report.json")


def render_views(
    recipe: Recipe, archive: Archive, store: Store, *, may_link: bool
) -> Iterator[tuple[RecipeView, str, float]]:
    """Render every view; yields it with how (rendered or linked) and the seconds it took."""
    for view in recipe.views.values():
        started_s = time.perf_counter()
        kept = store.root / "pages" / _page_key(archive, view)
        if may_link and all((kept / name).exists() for name in PAGES):
            for name in PAGES:
                _link_or_copy(kept / name, archive.folder / name)
            yield view, "linked", time.perf_counter() - started_s
            continue
        view.view().render(archive, view.config)
        kept.mkdir(parents=True, exist_ok=True)
        for name in PAGES:
            if (archive.folder / name).exists():
                _link_or_copy(archive.folder / name, kept / name)
        yield view, "rendered", time.perf_counter() - started_s


def _page_key(archive: Archive, view: RecipeView) -> str:
    """Names a page by all that it shows, but for the run's own times."""
    facts = archive.facts
    units = [(unit.name, unit.manifest.key) for unit in archive.units.values()]
    made_on = [facts["machine"], facts["packages"], (facts["git"] or {}).get("commit")]
    return digest_of([view.uses, units, archive.resolved, made_on, _code_stamp(view)])


def _code_stamp(view: RecipeView) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files that a view is made of: its own and those beside it."""
    module = sys.modules[view.view.__module__]
    folder = Path(module.__file__ or "").parent
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".py", ".jinja"})
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


def _link_or_copy(source: Path, target: Path) -> None:
    """Put a page in its place in one step; whatever shares the old one keeps it."""
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        os.link(source, draft)
    except OSError:
        shutil.copyfile(source, draft)
    draft.replace(target)
