"""What is said where a command is given a name that is not there, or too little."""

from __future__ import annotations

import pytest

from kpod.runner.cli import main
from tests.chain import Chain, seven


def test_show_says_what_is_meant_where_a_name_or_an_id_is_wrong(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(seven())
    words = ["show", "last", "--runs", str(chain.runs)]

    assert main([words[0], words[1], "q_nope", *words[2:]]) == 2
    assert capsys.readouterr().err.startswith(
        "got q_nope, but a question's id is q_ and 4 to 16 digits"
    )
    assert main([words[0], words[1], "s33", *words[2:]]) == 2
    assert "did you mean 's3'?" in capsys.readouterr().err
    assert main([words[0], words[1], "stages.s3.with", *words[2:]]) == 0
    assert "stages.s3.with.add" in capsys.readouterr().out


def test_one_run_is_too_few_for_a_diff_and_a_third_is_not_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["diff", "last"])
    assert capsys.readouterr().err.endswith("the following arguments are required: B\n")
