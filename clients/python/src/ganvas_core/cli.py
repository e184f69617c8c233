"""A command line from one options dataclass: flags, GANVAS_* variables, defaults, limits, help and error messages.

    @dataclass(frozen=True, kw_only=True, config=OPTIONS)
    class ServeOptions:
        port: Annotated[int, Field(ge=0, le=65535)] = 50051
        \"\"\"Port of the service; 0: a free one.\"\"\"

    def serve(options: ServeOptions) -> int | None:
        \"\"\"Start the service.\"\"\"

    run_verbs(serve)        # serve [--port INTEGER], or GANVAS_PORT; "serve: --port must be within [0, 65535]; got -1."

The docstring below a field is its help. docs/adr/0006 says why this is not a library's work.
"""

from __future__ import annotations

import inspect
import math
import os
import re
import shlex
import sys
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

__all__ = [
    "OPTIONS",
    "Cli",
    "Option",
    "UsageError",
    "UserError",
    "changed_options",
    "describe_validation_error",
    "options_of",
    "run_verbs",
]

OPTIONS = ConfigDict(extra="forbid", use_attribute_docstrings=True)
"""The pydantic configuration of every options dataclass."""

Verb = Callable[[Any], int | None]
"""A function of one options dataclass; returns the exit code, None being 0."""


class UserError(Exception):
    """A failure that the message explains to its reader: shown as `VERB: message`, without a traceback."""

    exit_code = 1


class UsageError(UserError):
    """What was asked for cannot be done: a wrong option, name or file."""

    exit_code = 2


class InterruptedVerb(UserError):
    """Ctrl-C."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("interrupted.")


@dataclass(frozen=True, kw_only=True)
class Cli:
    """What the command line needs to know of a field beyond its type, default and docstring: Annotated[int, Cli(…)]."""

    positional: bool = False
    flag: str | None = None
    """None: --field-name; of a positional one FIELD_NAME."""
    env: str | None = None
    """Environment variable. None: GANVAS_FIELD_NAME, after the class's env_prefix; "": none."""
    shown_default: str | None = None
    """What to show for a default that is decided later."""
    secret: bool = False
    """Whether it comes from its variable alone: a list of processes shows every command line."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One field of an options dataclass, as the user sees it."""

    field: str
    type: Any
    default: Any
    """inspect.Parameter.empty: it must be given."""
    help: str
    limits: str
    """`within [1, 256]`; empty: none."""
    cli: Cli
    env: str | None
    constraints: tuple[Any, ...] = ()
    """pydantic's limits of the type."""

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def typed(self) -> str:
        """How a user writes it: `--port`, or NAME for an argument."""
        if self.cli.positional:
            return self.cli.flag or self.field.upper()
        if self.cli.secret:
            return self.env or self.field
        return self.cli.flag or "--" + self.field.replace("_", "-")

    @property
    def shown_default(self) -> str:
        if self.cli.shown_default is not None:
            return self.cli.shown_default
        if self.required:
            return "required"
        if self.default in (None, ()):
            return "none"
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        return str(self.default)


def options_of(options_type: type) -> list[Option]:
    """Every field of an options dataclass, those of its base classes first."""
    fields: dict[str, FieldInfo] = options_type.__pydantic_fields__  # type: ignore[attr-defined]
    prefix: str | None = getattr(options_type, "env_prefix", "GANVAS_")
    found = []
    for name, info in fields.items():
        cli = next((item for item in info.metadata if isinstance(item, Cli)), Cli())
        env = cli.env if cli.env is not None else f"{prefix}{name.upper()}" if prefix else ""
        default = info.get_default(call_default_factory=True)
        found.append(
            Option(
                field=name,
                type=info.annotation,
                default=inspect.Parameter.empty if default is PydanticUndefined else default,
                help=" ".join(_docstring(options_type, name).split()),
                limits=_limits(info),
                cli=cli,
                env=None if cli.positional else env or None,
                constraints=tuple(item for item in info.metadata if not isinstance(item, Cli)),
            )
        )
    return found


def changed_options(options: Any) -> list[str]:
    """The options that are not their defaults, as a command line would have them; without secrets."""
    changed = []
    for option in options_of(type(options)):
        value = getattr(options, option.field)
        if value == option.default or option.cli.secret:
            continue
        if isinstance(value, bool):
            changed.append(option.typed if value else f"--no-{option.typed.removeprefix('--')}")
        elif isinstance(value, tuple):
            changed += [f"{option.typed} {shlex.quote(str(item))}" for item in value]
        else:
            changed.append(f"{option.typed} {shlex.quote(str(value))}")
    return changed


def describe_validation_error(error: ValidationError, options: Iterable[Option] = ()) -> str:
    """The first thing pydantic found wrong, in one line: `--port must be within [0, 65535]; got -1.`

    Args:
        options: fields that are called as they are typed. Others are called by their name, `image.height`.
    """
    errors = error.errors(include_url=False)
    # A misspelled field comes before the one that is missing for it.
    first = next((entry for entry in errors if entry["type"] == "unexpected_keyword_argument"), errors[0])
    where = ".".join(str(part) for part in first["loc"])
    option = next((option for option in options if option.field == where), None)
    name = option.typed if option else where
    if first["type"] == "value_error":  # from our own validators: already a whole message
        message = first["msg"].removeprefix("Value error, ")
        return message if not name else f"{name} {message}"
    if first["type"] == "missing":
        return f"{name} is missing."
    if first["type"] == "unexpected_keyword_argument":
        return f"{name} is unknown."
    if first["type"] == "literal_error":
        message = f"must be {first['ctx']['expected']}"
    elif first["type"] in _PARSE_ERRORS:
        message = f"must be {_PARSE_ERRORS[first['type']]}"
    elif option and option.limits and first["type"] in _LIMIT_ERRORS:
        message = f"must be {option.limits}"
    else:
        message = re.sub(r"^(Input|String) should", "must", first["msg"])
    value = first["input"]
    try:
        finite = math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        finite = True
    if not finite:  # "inf" and "nan" are numbers to a parser, and a limit like "more than 0" does not exclude them
        message = "must be a finite number" + (f" {option.limits}" if option and option.limits else "")
    # What is typed arrives as text, so a number is shown without quotes.
    shown = ascii(value)[1:-1] if option and isinstance(value, str) else repr(value)
    got = "" if isinstance(value, dict) else f"; got {shown:.60}"
    return f"{name} {message}{got}.".lstrip()


def run_verbs(*verbs: Verb, arguments: list[str] | None = None, program: str = "./ganvas") -> typing.NoReturn:
    """Run the verb that the command line names, and exit: 0, the verb's own code, or a UserError's.

    Every failure that is not a defect ends in one line on stderr, `VERB: message`.

    Args:
        program: what a user types before the verb.
    """
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    # Without rich, whose tables cut long option names on a narrow terminal.
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.callback()(lambda: None)  # else typer would take a single verb for the whole program
    for verb in verbs:
        app.command(verb.__name__)(_command(verb))
    name = arguments[0] if not arguments[0].startswith("-") else "ganvas"
    try:
        code = app(args=arguments, prog_name=program, standalone_mode=False)
    except UserError as error:
        code = _fail(name, str(error), error.exit_code)
    except typer.TyperException as error:  # an option that is unknown, missing or not a number
        message = getattr(error, "format_message", error.__str__)()
        code = _fail(name, f"{message} See: {program} {name} --help.", 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _fail(name, f"{where}{error.strerror or error}.", 1)
    sys.exit(code or 0)


_PARSE_ERRORS = {"int_parsing": "a whole number", "float_parsing": "a number"}
_LIMIT_ERRORS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}


def _fail(verb: str, message: str, code: int) -> int:
    print(f"{verb}: {message}", file=sys.stderr)
    return code


def _command(verb: Verb) -> Callable[..., int | None]:
    """The function that typer calls: one parameter per option, which become the dataclass that the verb takes."""
    options_type: type = typing.get_type_hints(verb)["options"]
    options = options_of(options_type)

    def run(**values: Any) -> int | None:
        given = {name: value for name, value in values.items() if value not in (None, [])}
        for option in options:
            if option.cli.secret and option.env and (value := os.environ.get(option.env)):
                given[option.field] = value
            if given.get(option.field) == "":
                raise UsageError(f"{option.typed} must not be empty.")
        try:
            parsed = options_type(**given)
        except ValidationError as error:
            raise UsageError(describe_validation_error(error, options)) from None
        try:
            return verb(parsed)
        except KeyboardInterrupt:  # typer would exit without a message
            raise InterruptedVerb from None

    run.__doc__ = verb.__doc__
    vars(run)["__signature__"] = inspect.Signature([_parameter(option) for option in options if not option.cli.secret])
    run.__annotations__ = {}
    return run


def _parameter(option: Option) -> inspect.Parameter:
    """The option as typer takes it: as text. pydantic parses it, so values are checked in one place."""
    limits = f" ({option.limits})" if option.limits else ""
    kind, metavar = _text_type(option.type)
    names = [f"{option.typed}/--no-{option.typed[2:]}" if option.default is True else option.typed]
    shown = "" if option.shown_default in ("none", "off", "required") else f" [default: {option.shown_default}]"
    described: dict[str, Any] = {
        "help": option.help + limits + shown,
        "show_default": False,  # typer would show the default of the text that it parses
    }
    if option.cli.positional:
        declared: Any = typer.Argument(metavar=option.typed, **described)
    else:
        declared = typer.Option(*names, envvar=option.env, metavar=metavar, **described)
    default = option.default if option.default is inspect.Parameter.empty or kind is bool else None
    if default is not inspect.Parameter.empty and kind is not bool:
        kind = kind | None
    return inspect.Parameter(
        option.field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declared]
    )


def _text_type(annotation: Any) -> tuple[Any, str | None]:
    """What typer parses for a field of this type (text, texts or a flag), and how help calls its value."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType, Annotated):
        return _text_type(next(item for item in arguments if item is not type(None)))
    if origin is tuple:
        return list[str], _text_type(arguments[0])[1]
    if origin is Literal:
        return str, "|".join(arguments)
    if annotation is bool:
        return bool, None
    names = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}
    if annotation not in names:
        raise TypeError(f"an option cannot be of type {annotation}")
    return str, names[annotation]


def _docstring(options_type: type, field: str) -> str:
    """pydantic keeps a docstring with the class that declares the field."""
    for base in options_type.__mro__:
        info = vars(base).get("__pydantic_fields__", {}).get(field)
        if info is not None and info.description:
            return str(info.description)
    raise TypeError(f"{options_type.__name__}.{field} has no docstring: it is the help of its option.")


def _limits(info: FieldInfo) -> str:
    """A field's bounds in words."""
    bounds = {
        key: getattr(item, key) for item in info.metadata for key in ("ge", "gt", "le", "lt") if hasattr(item, key)
    }
    if "ge" in bounds and "le" in bounds:
        return f"within [{bounds['ge']}, {bounds['le']}]"
    words = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
    return " and ".join(words[key].format(bound) for key, bound in bounds.items())
