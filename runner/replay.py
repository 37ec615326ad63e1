"""What endpoints answered, put from an archive into a store: made again, they would answer anew, and be paid again."""

from __future__ import annotations

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.copies import link_or_copy
from kpod.runner.disk import DISK
from kpod.runner.errors import KpodError
from kpod.runner.seal import check_file
from kpod.runner.store import Store
from kpod.runner.verifying import determinism_of


def put_external_answers(archive: Archive, store: Store) -> frozenset[str]:
    """Publish the archived results of all stages that others answer.

    Args:
        archive: of a complete run.
        store: where they become hits.

    Returns:
        The units that were published.

    Raises:
        KpodError: answers are gone from the archive, or are not what they were.
    """
    external = [unit for unit in archive.units.values() if determinism_of(unit.uses) == "external"]
    for unit in external:
        _publish(archive, unit, store)
    return frozenset(unit.name for unit in external)


def _publish(archive: Archive, unit: ArchivedUnit, store: Store) -> None:
    with store.drafting(unit.manifest.key) as draft:
        for name, output in unit.manifest.outputs.items():
            folder = archive.output_path(unit, name).parent
            for file in output.files:
                try:
                    check_file(folder / file.path, file.sha256)
                except KpodError as error:
                    raise KpodError(
                        f"{unit.name}: its archived answers cannot be replayed; --pay asks its endpoint again\n{error}"
                    ) from None
                link_or_copy(folder / file.path, draft / file.path, disk=DISK)
        store.publish(draft, unit.manifest)
