"""The command line: what it prints, what it returns, and how little it loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from kpod.runner import cli
from tests.chain import PLUGIN, Chain, finish, seven

HEAVY = {"torch", "transformers", "datasets", "sklearn", "numpy", "jsonschema", "pandas", "pyarrow", "rich"}  # fmt: skip


@pytest.mark.parametrize("words", [["--version"], ["-V"]])
def test_version_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert 0 == cli.main(words) == cli.main_run(words)
    assert f"kpod {version('kpod')}\n" * 2 == capsys.readouterr().out


@pytest.mark.parametrize(("words", "code"), [([], 2), (["--help"], 0), (["help"], 0), (["-h"], 0)])
def test_usage_names_every_command(
    words: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code == cli.main(words)
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in cli.COMMANDS)


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rnu"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("kpod has no command 'rnu'\nallowed: run, validate")
    assert said.endswith("did you mean 'run'?\n")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_spec(f"kpod.runner.commands.{name.replace('-', '_')}") is not None
    with pytest.raises(SystemExit) as raised:
        cli.main([name, "--help"])
    assert raised.value.code == 0
    assert cli.COMMANDS[name] in " ".join(capsys.readouterr().out.split()).replace("- ", "-")


@pytest.mark.parametrize(
    "words", [["run"], ["run", "a", "b"], ["run", "a", "--nonsense"], ["plan"]]
)
def test_wrong_usage_returns_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(words)
    assert raised.value.code == 2
    assert "usage: kpod" in capsys.readouterr().err


def test_plan_returns_ten_where_there_is_work_and_zero_where_there_is_none(chain: Chain) -> None:
    words = [str(chain.write(seven())), "--runs", str(chain.runs)]

    codes = [cli.main([name, *words]) for name in ("plan", "run", "plan", "run")]
    again = cli.main(["run", *words, "--plan"])

    assert [*codes, again] == [10, 0, 0, 0, 0]


def test_the_store_may_lie_elsewhere_and_be_named_in_the_environment(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(chain.write(seven()))
    monkeypatch.setenv("KPOD_RUNS", str(chain.folder / "a"))
    monkeypatch.setenv("KPOD_STORE", str(chain.folder / "shared"))
    assert cli.main(["run", path]) == 0
    assert cli.main(["run", path, "--runs", str(chain.folder / "b")]) == 0

    assert len(chain.executions()) == 7
    assert not (chain.folder / "a" / ".store").exists()


def test_events_as_json_are_one_object_a_line(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["run", str(chain.write(seven())), "--runs", str(chain.runs), "--json"])

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (rows[0]["event"], rows[-1]["event"]) == ("run_started", "run_finished")


@pytest.mark.parametrize("words", [["run", "recipe.yaml"], ["plan", "recipe.yaml"], ["--version"]])
def test_nothing_heavy_is_loaded_where_nothing_is_to_do(chain: Chain, words: list[str]) -> None:
    chain.run(seven())
    code = (
        "import sys\n"
        "from kpod.runner.cli import main\n"
        f"code = main({words})\n"
        "print('\\nloaded', *sorted(name for name in sys.modules if '.' not in name))\n"
        "sys.exit(code)\n"
    )
    (chain.folder / "main.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=chain.folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(PLUGIN), "KPOD_CHAIN_JOURNAL": str(chain.journal)},
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    loaded = set(done.stdout.rpartition("\nloaded ")[2].split())
    assert "kpod" in loaded
    assert set() == loaded & HEAVY
    assert len(chain.executions()) == 7


def test_a_reader_that_goes_away_ends_the_run_without_a_traceback(chain: Chain) -> None:
    chain.write(seven(s3={"pause_s": 1.0}))
    process = chain.start("run", "recipe.yaml")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=60)
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()

    assert (process.returncode, said) == (5, "")
    assert finish(chain.start("run", "recipe.yaml")).returncode == 0
