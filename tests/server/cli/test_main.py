"""The command line: wrong usage is one line that says what to do, with exit code 2."""

import pytest

from server.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "message", "help_command"),
    [
        ([], "required: COMMAND", "cloister"),
        (["serv"], "invalid choice: 'serv'", "cloister"),
        (["serve", "--prot=1"], "unknown argument --prot=1 (did you mean --port?)", "cloister serve"),
        (["serve", "--port"], "argument --port: expected one argument", "cloister serve"),
        (["keys"], "required: ACTION", "cloister keys"),
        (["keys", "create"], "required: --name", "cloister keys create"),
        (["keys", "list", "more"], "unknown argument more", "cloister keys list"),
        (["keys", "create", "--name=a", "--rate=0"], "argument --rate: a rate is", "cloister keys create"),
        (["bench", "--streams=none"], "argument --streams: 'none' is not", "cloister bench"),
        (["search", "a", "--\x1b[2J"], "unknown argument --[2J", "cloister search"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_with_the_command_for_help(
    arguments: list[str], message: str, help_command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    output = capsys.readouterr()
    assert (exit.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert output.err.startswith("cloister: ")
    assert message in output.err
    assert output.err.endswith(f"show what is possible: {help_command} --help\n")


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert (exit.value.code, capsys.readouterr().out) == (0, "cloister 0.1.0\n")
