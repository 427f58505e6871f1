"""The command line: flags from the settings, what is imported, what is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from server.cli import given_settings, main, make_parser
from server.errors import OptionsError
from server.lsp.tcp import knows_token, parse_address
from server.options import Options, apply_settings

HEAVY = ("onnxruntime", "tokenizers", "torch", "transformers", "rich", "numpy", "pathspec")


def test_every_setting_has_a_flag_of_its_name() -> None:
    flags = {name for action in make_parser()._actions for name in action.option_strings}
    assert {"--" + f.name.replace("_", "-") for f in fields(Options)} <= flags


def test_flags_become_settings_of_their_types() -> None:
    command = (
        "--model m --no-enabled --threads 2 --temperature 0.5 --filters special,blank "
        "--languages markdown=false,python=true --multi-line-languages yaml=never"
    )
    settings = given_settings(make_parser().parse_args(command.split()))
    options, warnings = apply_settings(Options(), settings)
    assert warnings == []
    assert options.model == "m"
    assert not options.enabled
    assert options.threads == 2
    assert options.temperature == 0.5
    assert options.filters == ("special", "blank")
    assert options.languages == {"markdown": False, "python": True}
    assert options.multi_line_languages == {"yaml": "never"}


def test_no_flag_means_no_setting() -> None:
    arguments = make_parser().parse_args(["--stdio", "--clientProcessId=12"])
    assert given_settings(arguments) == {}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("--bakend ort", "did you mean '--backend'"),
        ("--max-lines 0", "expected a number from 1 to 100"),
        ("--languages markdown=perhaps", "languages"),
        ("--tcp 0.0.0.0:80", "loopback only"),
        ("--log-file /nonexistent/folder/file", "can't be opened"),
    ],
)
def test_a_command_that_means_nothing_says_what_would(command: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "server", *command.split()],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_told() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0


@pytest.mark.parametrize("module", ["server.cli", "server.lsp.server"])
def test_starting_imports_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("localhost:81", ("127.0.0.1", 81)),
        (":82", ("127.0.0.1", 82)),
        ("[::1]:83", ("::1", 83)),
    ],
)
def test_loopback_addresses_are_read(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "0.0.0.0:1", "::1", "10.0.0.1:1"]
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(OptionsError):
        parse_address(text)


@pytest.mark.parametrize(
    ("first", "is_known"),
    [
        (b'{"method":"initialize","params":{"initializationOptions":{"token":"t"}}}', True),
        (b'{"method":"initialize","params":{"initializationOptions":{"token":"u"}}}', False),
        (b'{"method":"initialize","params":{"initializationOptions":{"token":"\\ud800"}}}', False),
        (b'{"method":"shutdown","params":{"initializationOptions":{"token":"t"}}}', False),
        (b'{"method":"initialize","params":{"initializationOptions":null}}', False),
        (b'{"method":"initialize"}', False),
        (b"[]", False),
        (b"{", False),
    ],
)
def test_only_an_initialize_with_the_token_opens(first: bytes, is_known: bool) -> None:
    assert knows_token(first, "t") is is_known
