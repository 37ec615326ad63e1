"""Views rendered into an archive; never keyed. A page of a run in which nothing ran is the earlier page, linked."""

from __future__ import annotations

import os
import shutil
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
    units = [(unit.name, unit.manifest.key) for unit in archive.units.values()]
    return digest_of(
        [
            view.uses,
            str(view.config),
            units,
            archive.facts["name"],
            archive.facts["primary"],
            archive.facts["seed"],
        ]
    )


def _link_or_copy(source: Path, target: Path) -> None:
    """Put a page in its place in one step; whatever shares the old one keeps it."""
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        os.link(source, draft)
    except OSError:
        shutil.copyfile(source, draft)
    draft.replace(target)
