"""`python -m server`: reads the command line and starts what it asks for.

Flags of the settings are made from `server.options`, so their names are those that editors use.
Imports as little as it can: an editor waits for the server at its start.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from server import __version__
from server.errors import CompletionServerError, OptionsError, nearest_name
from server.exit_codes import ExitCode
from server.logs import LEVELS, configure
from server.options import Options, apply_settings

TOKEN_VARIABLE = "FORETYPE_TOKEN"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code, an `ExitCode`."""
    parser = make_parser()
    try:
        _check_flags(parser, sys.argv[1:] if argv is None else argv)
        arguments = parser.parse_args(argv)
        configure(arguments.log_file, arguments.log_level)
        settings = given_settings(arguments)
        options, warnings = apply_settings(Options(), settings)
        if warnings:
            raise OptionsError("; ".join(warnings))
        return _run(arguments, settings, options)
    except CompletionServerError as exc:
        print(f"foretype: {exc}", file=sys.stderr)
        return ExitCode.MISUSED


def make_parser() -> argparse.ArgumentParser:
    """Return the parser: ways to connect, the log, every setting, the commands."""
    parser = argparse.ArgumentParser(
        prog="foretype-server",
        description="Foretype: inline completions over the Language Server Protocol.",
        allow_abbrev=False,
        epilog="Without a command it serves one editor over stdin and stdout.",
    )
    parser.add_argument("--version", action="version", version=f"foretype {__version__}")
    parser.add_argument("--stdio", action="store_true", help="serve over stdio (the default)")
    parser.add_argument(
        "--tcp",
        metavar="127.0.0.1:PORT",
        help="serve one editor over TCP, loopback only; prints port and one-time token",
    )
    parser.add_argument("--clientProcessId", dest="client", help=argparse.SUPPRESS)
    parser.add_argument("--log-file", default="", metavar="FILE", help="write the log to a file")
    parser.add_argument("--log-level", default="", choices=("", *LEVELS), help="least level")
    _add_settings(parser)
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    complete = commands.add_parser("complete", help="one completion on the terminal")
    complete.add_argument("place", metavar="FILE:LINE[:COLUMN]", help="where, counted from 1")
    commands.add_parser("doctor", help="what is installed, what runs, what is blocked and why")
    return parser


def _check_flags(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Name the flag that was meant: argparse would stumble over what stands behind it.

    Raises:
        OptionsError: there is no such flag.
    """
    known = {name for action in parser._actions for name in action.option_strings}
    for argument in argv:
        flag = argument.split("=", 1)[0]
        if flag.startswith("--") and flag not in known:
            hint = nearest_name(flag, known).split("known:")[0].rstrip(" ;")
            raise OptionsError(f"unknown argument {flag!r}{hint} (--help lists all)")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "settings", "as in docs/settings.md; they override an editor's"
    )
    types = typing.get_type_hints(Options)
    for declared in fields(Options):
        flag = "--" + declared.name.replace("_", "-")
        how: dict[str, Any] = {
            "default": argparse.SUPPRESS,
            "dest": f"setting_{declared.name}",
            "help": declared.metadata["help"].replace("%", "%%"),
        }
        wanted = types[declared.name]
        if wanted is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **how)
            continue
        origin = typing.get_origin(wanted)
        if origin is tuple:
            how |= {"type": _names, "metavar": "NAME,..."}
        elif origin is not None:
            how |= {"type": _switches(typing.get_args(wanted)[1]), "metavar": "NAME=VALUE,..."}
        else:
            how |= {"type": wanted, "metavar": wanted.__name__.upper()}
            if declared.metadata["choices"]:
                how |= {"choices": declared.metadata["choices"], "metavar": None}
        group.add_argument(flag, **how)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _switches(kind: type) -> typing.Callable[[str], dict[str, Any]]:
    words = {"true": True, "false": False}

    def switches(text: str) -> dict[str, Any]:
        """Read `markdown=false,python=true`."""
        pairs = dict(pair.split("=", 1) for pair in _names(text))
        return {name: words.get(v, v) if kind is bool else v for name, v in pairs.items()}

    return switches


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the command line has, by name."""
    return {
        name.removeprefix("setting_"): value
        for name, value in vars(arguments).items()
        if name.startswith("setting_")
    }


def _run(arguments: argparse.Namespace, settings: Mapping[str, Any], options: Options) -> int:
    if arguments.command == "complete":
        from server import complete

        return complete.run(options, arguments.place)
    if arguments.command == "doctor":
        from server import doctor

        return doctor.run(options)
    if arguments.tcp is not None:
        return _serve_tcp(arguments.tcp, settings)
    return _serve_stdio(settings)


def _serve_stdio(settings: Mapping[str, Any]) -> int:
    from server.lsp.connection import Connection
    from server.lsp.lifeline import exit_after
    from server.lsp.server import ForetypeServer
    from server.lsp.stdio import take_stdio

    if not sys.stdin.isatty():  # Ctrl-C in the editor's terminal is not for us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(*take_stdio())
    return ForetypeServer(settings).serve(connection, on_stop=exit_after)


def _serve_tcp(address: str, settings: Mapping[str, Any]) -> int:
    from server.lsp.connection import Connection
    from server.lsp.lifeline import exit_after
    from server.lsp.server import ForetypeServer
    from server.lsp.tcp import Listener, new_token, parse_address

    given = os.environ.pop(TOKEN_VARIABLE, "")
    token = given or new_token()
    listener = Listener(*parse_address(address), token)
    host, port = listener.address
    told = {"host": host, "port": port} | ({} if given else {"token": token})
    print(json.dumps(told), flush=True)
    reader, writer, first = listener.accept()
    connection = Connection(reader, writer, is_strict=True, first=first)
    return ForetypeServer(settings).serve(connection, on_stop=exit_after)
