"""The program itself: help, exit codes, errors in one line, pipes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sentence_transformers import __version__
from sentence_transformers.cli import main as program
from sentence_transformers.cli.command import Command, CommandError, Group, UsageError
from sentence_transformers.cli.main import main

CHECKOUT = Path(__file__).resolve().parents[3]


def run_module(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "sentence_transformers", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def use(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make ``try`` the only command, which fails."""

    def run(args: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(program, "COMMANDS", (Command("try", "try it", lambda parser: None, run),))


def test_help_lists_every_command_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in program.COMMANDS:
        assert command.name in shown and command.summary in shown


NAMES = [
    f"{command.name} {inner.name}"
    for command in program.COMMANDS
    for inner in (command.commands if isinstance(command, Group) else [])
] + [command.name for command in program.COMMANDS if not isinstance(command, Group)]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"sentence-transformers {name}" in shown and "--debug" in shown


def test_a_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "usage: sentence-transformers index [--debug] COMMAND" in shown
    assert all(f"\n  {name} " in shown for name in ("build", "add", "search", "info"))


def test_a_group_without_a_command_is_misused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index"]) == 2
    assert "COMMAND --help" in capsys.readouterr().err
    assert main(["index", "burn"]) == 2
    assert "burn" in capsys.readouterr().err


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sentence-transformers {__version__}\n"


def test_no_command_shows_the_help_on_stderr_and_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "commands:" in shown.err


def test_an_unknown_command_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encoed"]) == 2
    shown = capsys.readouterr().err
    assert "invalid choice: 'encoed'" in shown and "search" in shown


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CommandError("no such column"), 1, "no such column"),
        (UsageError("pass a query"), 2, "pass a query"),
        (ValueError("two\nlines"), 1, "two lines"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), 1, "a.txt: No such file or directory"),
        (MemoryError(), 1, "MemoryError"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(monkeypatch, error)
    assert main(["try"]) == code
    assert capsys.readouterr().err == f"sentence-transformers: error: {message}\n"


@pytest.mark.parametrize("words", [["try", "--debug"], ["--debug", "try"]])
def test_debug_keeps_the_traceback(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, CommandError("no such column"))
    with pytest.raises(CommandError):
        main(words)


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, AttributeError("bug"))
    with pytest.raises(AttributeError):
        main(["try"])


def test_an_interrupt_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    use(monkeypatch, KeyboardInterrupt())
    assert main(["try"]) == 130
    assert capsys.readouterr().err == ""


def test_a_closed_pipe_ends_quietly() -> None:
    script = (
        "import sys\nfrom sentence_transformers.cli import main as m\n"
        "from sentence_transformers.cli.command import Command\n"
        "m.COMMANDS = (Command('try', 'try', lambda parser: None, lambda args: print('x' * 10_000_000) or 0),)\n"
        "sys.exit(m.main(['try']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_the_module_runs_as_the_program() -> None:
    done = run_module("--version")
    assert (done.returncode, done.stdout) == (0, f"sentence-transformers {__version__}\n")


def test_the_exit_code_reaches_the_shell(tmp_path: Path) -> None:
    done = run_module("encode", "missing.txt", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "sentence-transformers: error: missing.txt: No such file or directory\n"


@pytest.mark.parametrize("words", [["search"], ["index"], ["index", "build"], ["index", "search"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    script = (
        f"import sys; from sentence_transformers.cli.main import main; main({[*words, '--help']})\n"
        "print(sorted({'torch', 'numpy', 'transformers', 'pyarrow', 'tqdm'} & set(sys.modules)), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
