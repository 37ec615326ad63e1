"""Batch files: what is written, and what any state of an answer file comes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import BatchRequest, KpodError, Ledger
from kpod.runner.batch_files import BatchFiles, read_answers
from kpod.runner.cli import main
from kpod.runner.texts import TextStore
from tests.chain import Chain
from tests.runner.test_ledger import priced


def request(number: int, model: str = "m", words: int = 1) -> BatchRequest:
    body = {"model": model, "messages": [{"role": "user", "content": "wörd " * words}]}
    return BatchRequest(custom_id=f"id{number}", body=body, keys=(f"key{number}",))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_is_what_batch_services_read(tmp_path: Path) -> None:
    files = BatchFiles(tmp_path, "r")
    files.add(request(1))

    (path,) = files.close()
    assert path == tmp_path / "r-0001.jsonl"
    assert rows(path) == [
        {"custom_id": "id1", "method": "POST", "url": "/v1/chat/completions", "body": request(1).body}
    ]  # fmt: skip


def test_a_file_ends_at_its_lines_at_its_bytes_and_at_another_model(tmp_path: Path) -> None:
    by_lines = BatchFiles(tmp_path / "lines", "r", max_lines=2)
    by_bytes = BatchFiles(tmp_path / "bytes", "r", max_bytes=400)
    by_model = BatchFiles(tmp_path / "model", "r")
    for number in range(5):
        by_lines.add(request(number))
        by_bytes.add(request(number))
        by_model.add(request(number, model="ab"[number > 2]))

    assert [len(rows(path)) for path in by_lines.close()] == [2, 2, 1]
    made = by_bytes.close()
    assert all(path.stat().st_size <= 400 for path in made)
    assert sum(len(rows(path)) for path in made) == 5
    assert [{row["body"]["model"] for row in rows(path)} for path in by_model.close()] == [
        {"a"}, {"b"},
    ]  # fmt: skip


def test_a_request_larger_than_a_file_and_files_that_are_there_are_errors(tmp_path: Path) -> None:
    files = BatchFiles(tmp_path, "r", max_bytes=400)
    with pytest.raises(
        KpodError, match=r"request id1 has [\d,]+ bytes, but a batch file holds 400"
    ):
        files.add(request(1, words=200))
    (tmp_path / "r-0001.jsonl").touch()
    with pytest.raises(KpodError, match="is there already"):
        BatchFiles(tmp_path, "r")


def test_an_export_that_is_broken_off_leaves_no_file(tmp_path: Path) -> None:
    files = BatchFiles(tmp_path, "r")
    files.add(request(1))
    files.drop()

    assert list(tmp_path.iterdir()) == []


def export(chain: Chain, *words: str, to: str = "out") -> list[dict[str, Any]]:
    """Write the batch files of `said`, and give back the requests in them."""
    folder = chain.folder / to
    recipe = str(chain.folder / "recipe.yaml")
    assert main(["batch", "export", recipe, "said", "--to", str(folder), "--runs", str(chain.runs), *words]) == 0  # fmt: skip
    return [row for path in sorted(folder.glob("*.jsonl")) for row in rows(path)]


def answered(sent: dict[str, Any], said: str = "by batch") -> dict[str, Any]:
    """An output line of OpenAI's Batch API; `vllm run-batch` writes the same fields."""
    body = {
        "id": "chatcmpl-1", "object": "chat.completion", "model": "echo-1-0613",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
    }  # fmt: skip
    response = {"status_code": 200, "request_id": "req_1", "body": body}
    return {"id": "batch_req_1", "custom_id": sent["custom_id"], "response": response, "error": None}  # fmt: skip


def refused(sent: dict[str, Any], status: int, code: str) -> dict[str, Any]:
    body = {"error": {"message": f"words about {sent['custom_id']}", "type": "bad", "code": code}}
    return {"custom_id": sent["custom_id"], "response": {"status_code": status, "body": body}, "error": None}  # fmt: skip


def expired(sent: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": sent["custom_id"], "response": None, "error": {"code": "batch_expired", "message": "late"}}  # fmt: skip


def write(path: Path, lines: list[dict[str, Any] | str]) -> Path:
    said = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(said) + "\n", encoding="utf-8")
    return path


def take(chain: Chain, capsys: pytest.CaptureFixture[str], *paths: Path) -> list[str]:
    capsys.readouterr()
    main(["batch", "import", *map(str, paths), "--runs", str(chain.runs)])
    return capsys.readouterr().out.splitlines()


def test_answers_that_were_imported_are_all_that_a_run_needs(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.write(priced(4))
    sent = export(chain)
    assert "4 requests for 4 texts in 1 file\n" in capsys.readouterr().out
    output = write(chain.folder / "output.jsonl", [answered(row) for row in reversed(sent)])

    said = take(chain, capsys, output)
    done = chain.run()

    assert said == [
        "4 texts stored, 0 were there already, 0 requests failed, 0 lines are not of this store, 0 could not be read"
    ]
    assert not [line for line in chain.lines() if line.startswith("ask:")]
    assert done.archive.units["said"].manifest.notes["saved"]["texts"] == 4
    totals = Ledger(TextStore(chain.store / "texts.sqlite")).of_endpoints()["batch", "echo-1"]
    assert (totals.answered, totals.prompt_tokens, totals.usd) == (4, 400, pytest.approx(0.0008))
    assert export(chain, to="again") == []


def test_importing_twice_changes_nothing(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    chain.write(priced(3))
    sent = export(chain)
    output = write(chain.folder / "output.jsonl", [answered(row) for row in sent])
    store = TextStore(chain.store / "texts.sqlite")
    take(chain, capsys, output)
    once = (Ledger(store).totals(), store.count())

    said = take(chain, capsys, output, output)

    assert said[0].startswith("0 texts stored, 6 were there already, 0 requests failed")
    assert (Ledger(store).totals(), store.count()) == once


def test_partial_torn_and_foreign_lines_are_counted_and_named_and_the_rest_is_stored(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.write(priced(6))
    sent = export(chain)
    broken = answered(sent[5])
    broken["response"]["body"] = {"object": "list"}
    output = write(
        chain.folder / "output.jsonl",
        [answered(sent[0]), "", answered({"custom_id": "foreign"}), broken, "[1]", json.dumps(answered(sent[1]))[:-40]],
    )  # fmt: skip
    errors = write(
        chain.folder / "errors.jsonl",
        [
            refused(sent[2], 400, "context_length_exceeded"),
            refused(sent[3], 400, "context_length_exceeded"),
            expired(sent[4]),
        ],
    )

    said = take(chain, capsys, output, errors)

    assert said == [
        "1 texts stored, 0 were there already, 4 requests failed, 1 lines are not of this store, 2 could not be read",
        "failed: 2 with status 400 context_length_exceeded",
        "failed: 1 with no chat.completion object",
        "failed: 1 with batch_expired",
        f"not of this store: {output}:3: foreign",
        f"could not be read: {output}:5: no custom_id",
        f"could not be read: {output}:6: no JSON (a torn line)",
        "5 exported requests still wait for an answer; `kpod run` would ask for them",
    ]
    assert len(export(chain, to="again")) == 5


def test_texts_that_were_asked_meanwhile_keep_their_first_words(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.write(priced(3))
    sent = export(chain)
    chain.run()

    said = take(chain, capsys, write(chain.folder / "o.jsonl", [answered(row) for row in sent]))

    assert said[0].startswith("0 texts stored, 3 were there already")
    store = TextStore(chain.store / "texts.sqlite")
    assert Ledger(store).totals().answered == 6, "both were paid for"
    (texts,) = store.file.connection.execute("SELECT GROUP_CONCAT(text) FROM texts").fetchone()
    assert "by batch" not in texts


def test_refused_texts_are_exported_again_only_on_retry_and_replaced(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(priced(4, refuses=["2"]))
    assert export(chain, to="none") == []

    (sent,) = export(chain, "--retry", "refused")
    said = take(chain, capsys, write(chain.folder / "o.jsonl", [answered(sent)]))

    assert said[0].startswith("1 texts stored, 0 were there already")


def test_a_price_that_is_set_on_export_is_what_the_ledger_counts(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.write(priced(2))
    half = ["--set", "stages.said.with.price.input=0.5", "--set", "stages.said.with.price.output=1"]
    sent = export(chain, *half)
    take(chain, capsys, write(chain.folder / "o.jsonl", [answered(row) for row in sent]))

    assert Ledger(TextStore(chain.store / "texts.sqlite")).totals().usd == pytest.approx(0.0002)


def test_a_stage_that_asks_nobody_and_one_that_is_not_there_are_errors(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    path = chain.write(priced(2))
    words = ["--to", str(chain.folder / "o"), "--runs", str(chain.runs)]

    assert main(["batch", "export", str(path), "s1", *words]) == 2
    assert "s1 (chain.numbers) asks no endpoint" in capsys.readouterr().err
    assert main(["batch", "export", str(path), "s9", *words]) == 2
    assert "allowed: s1, said" in capsys.readouterr().err


def test_files_that_are_not_there_or_hold_nothing_of_ours_end_in_an_exit_code(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "import", str(chain.folder / "no.jsonl"), "--runs", str(chain.runs)]) == 2
    assert "no.jsonl: No such file" in capsys.readouterr().err
    foreign = write(chain.folder / "f.jsonl", [answered({"custom_id": "x"})])
    assert main(["batch", "import", str(foreign), "--runs", str(chain.runs)]) == 3
    assert list(read_answers([])) == []
