"""`kpod batch export RECIPE STAGE --to DIR` and `kpod batch import FILE…`: a teacher that is reached by files only."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from kpod.runner.assembly import find_recipe
from kpod.runner.batch import Batchable, BatchBook, BatchRequest
from kpod.runner.batch_files import BatchAnswer, BatchFiles, read_answers
from kpod.runner.commands._options import add_folders, add_recipe, add_retry, run_options
from kpod.runner.console import RunConsole, complain, say
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.ledger import Price
from kpod.runner.registry import find_stage
from kpod.runner.session import Session
from kpod.runner.store import Store

_NOTED_AT_ONCE = 1000
_MOST_NAMED = 5


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="export|import")
    export = actions.add_parser(
        "export",
        help="write the requests of a stage whose texts are not stored",
        allow_abbrev=False,
    )
    add_recipe(export)
    export.add_argument("stage", metavar="STAGE", help="the id of a stage that asks an endpoint")
    export.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder of the files")
    add_retry(export)
    take = actions.add_parser(
        "import", help="store the answers of output and error files", allow_abbrev=False
    )
    take.add_argument("files", type=Path, nargs="+", metavar="FILE", help="JSON lines of a batch")
    add_folders(take)


def run(arguments: Namespace) -> int:
    """Do it."""
    if arguments.action == "export":
        return _export(arguments)
    return _import(run_options(arguments).open_store(), arguments.files)


def _export(arguments: Namespace) -> int:
    """Write the files, and remember in the store what each request asks for."""
    session = Session(find_recipe(arguments.recipe), run_options(arguments))
    stage = session.recipe.stages.get(arguments.stage)
    if stage is None:
        raise KpodError(
            f"no stage has the id '{arguments.stage}'\nallowed: {', '.join(session.recipe.stages)}"
        )
    if not issubclass(stage.stage, Batchable):
        raise KpodError(
            f"{arguments.stage} ({stage.uses}) asks no endpoint; it has no requests to write"
        )
    price = stage.stage.price(stage.config)
    requests = session.batch_requests(arguments.stage, listeners=[RunConsole(session.recipe)])
    files = BatchFiles(arguments.to, f"{session.recipe.name}-{arguments.stage}")
    book = BatchBook(session.store.texts)
    num_requests = num_texts = 0
    try:
        for group in _groups(requests):
            for request in group:
                files.add(request)
                num_requests += 1
                num_texts += len(request.keys)
            book.note(group, uses=stage.uses, price=price)
        made = files.close()
    except BaseException:
        files.drop()
        raise
    for path in made:
        say(str(path))
    say(
        f"{num_requests:,} requests for {num_texts:,} texts in {len(made)} file{'s' if len(made) > 1 else ''}"
    )
    say(_next_step(price) if made else "every text is stored; there is nothing to ask")
    return ExitCode.DONE


def _next_step(price: Price | None) -> str:
    told = (
        "no price is set, so the ledger will count tokens only"
        if price is None
        else f"the ledger will count {price.input:g} and {price.output:g} USD a million tokens, as the recipe says"
        " (a batch service may take less: --set its price)"
    )
    return f"{told}\nrun them with a batch service or `vllm run-batch`, then: kpod batch import FILE…, with this store"


def _groups(requests: Iterator[BatchRequest]) -> Iterator[list[BatchRequest]]:
    while group := list(islice(requests, _NOTED_AT_ONCE)):
        yield group


@dataclass(slots=True)
class _Count:
    """What the lines came to."""

    num_stored: int = 0
    num_there: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    def lines(self, *, num_waiting: int) -> Iterator[str]:
        """For people: the sums, then what a person may have to look at."""
        num_failed = sum(self.failed.values())
        yield (
            f"{self.num_stored:,} texts stored, {self.num_there:,} were there already, {num_failed:,} requests failed,"
            f" {len(self.unknown):,} lines are not of this store, {len(self.torn):,} could not be read"
        )
        for reason, number in self.failed.most_common():
            yield f"failed: {number:,} with {reason}"
        for title, named in (("not of this store", self.unknown), ("could not be read", self.torn)):
            for line in named[:_MOST_NAMED]:
                yield f"{title}: {line}"
            if len(named) > _MOST_NAMED:
                yield f"{title}: {len(named) - _MOST_NAMED:,} more"
        if num_waiting:
            yield f"{num_waiting:,} exported requests still wait for an answer; `kpod run` would ask for them"


def _import(store: Store, paths: list[Path]) -> int:
    """Take every line that belongs to this store; none is fatal."""
    book, count = BatchBook(store.texts), _Count()
    for answer in read_answers(paths):
        _take(book, answer, count)
    for line in count.lines(num_waiting=book.num_waiting()):
        say(line)
    num_lines = count.num_stored + count.num_there
    if not num_lines and (count.failed or count.unknown or count.torn):
        complain("nothing of these files was stored")
        return ExitCode.STAGE_FAILED
    return ExitCode.DONE


def _take(book: BatchBook, answer: BatchAnswer, count: _Count) -> None:
    """One line: stored, there already, failed, foreign or torn."""
    if answer.custom_id is None:
        count.torn.append(f"{answer.where}: {answer.reason}")
        return
    sent = book.find(answer.custom_id)
    if sent is None:
        count.unknown.append(f"{answer.where}: {answer.custom_id}")
        return
    if answer.body is None:
        count.failed[answer.reason] += 1
        return
    stage = find_stage(sent.uses)
    assert issubclass(stage, Batchable)
    try:
        texts = stage.read_batch_answer(answer.body, len(sent.keys))
    except ValueError as error:
        count.failed[str(error)] += 1
        return
    taken = book.take(answer.custom_id, sent, answer.body, texts)
    count.num_stored += taken.num_stored
    count.num_there += taken.num_there
