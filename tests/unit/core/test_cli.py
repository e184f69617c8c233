"""A command line from one options dataclass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from ganvas_core.cli import OPTIONS, Cli, UsageError, UserError, describe_validation_error, options_of
from tests.support import cli


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class ShowOptions:
    name: Annotated[str, Cli(positional=True)]
    """What to show."""
    port: Annotated[int, Field(ge=0, le=65535)] = 50051
    """Port to use [any]."""
    ratio: Annotated[float, Field(gt=0)] = 0.5
    """A ratio."""
    level: Literal["low", "high"] = "low"
    """How much."""
    tag: tuple[str, ...] = ()
    """A tag; may be given again."""
    color: bool = True
    """Whether in color."""
    quiet: Annotated[bool, Cli(env="")] = False
    """Say nothing."""
    folder: Annotated[Path | None, Cli(flag="--dir", shown_default="here")] = None
    """Where."""

    def __post_init__(self) -> None:
        if self.name == "nothing":
            raise ValueError("NAME must be something; got nothing.")


def show(options: ShowOptions) -> int:
    """Show a thing.

    Example: ganvas show this
    """
    print(options)
    return 7 if options.quiet else 0


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class FailOptions:
    env_prefix: ClassVar[None] = None

    how: str
    """Which way."""


FAILURES: dict[str, BaseException] = {
    "user": UserError("the disk is full."),
    "usage": UsageError("--how must be otherwise."),
    "os": FileNotFoundError(2, "No such file or directory", "/nowhere"),
    "interrupt": KeyboardInterrupt(),
}


def fail(options: FailOptions) -> None:
    """Fail."""
    raise FAILURES[options.how]


def test_option_without_a_flag_has_its_default() -> None:
    assert cli.run(show, ["this"]).stdout == (
        "ShowOptions(name='this', port=50051, ratio=0.5, level='low', tag=(), color=True, quiet=False, folder=None)\n"
    )


def test_flags_are_parsed_to_the_types_of_the_fields() -> None:
    arguments = ["this", "--port", "1", "--ratio", "2", "--level", "high", "--tag", "a", "--tag", "b", "--no-color"]
    result = cli.run(show, [*arguments, "--dir", "x/y"])
    assert "port=1, ratio=2.0, level='high', tag=('a', 'b'), color=False" in result.stdout
    assert "folder=PosixPath('x/y')" in result.stdout


def test_variable_stands_in_for_a_flag_and_the_flag_wins() -> None:
    assert "port=9" in cli.run(show, ["this"], {"GANVAS_PORT": "9"}).stdout
    assert "port=8" in cli.run(show, ["this", "--port", "8"], {"GANVAS_PORT": "9"}).stdout


def test_field_may_have_no_variable() -> None:
    assert "quiet=False" in cli.run(show, ["this"], {"GANVAS_QUIET": "1"}).stdout
    assert cli.run(fail, [], {"GANVAS_HOW": "user"}).exit_code == 2


def test_the_verb_s_code_is_the_exit_code() -> None:
    assert cli.run(show, ["this"]).exit_code == 0
    assert cli.run(show, ["this", "--quiet"]).exit_code == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["this", "--port", "-1"], "--port must be within [0, 65535]; got -1."),
        (["this", "--port", "many"], "--port must be a whole number; got many."),
        (["this", "--port", "1.5"], "--port must be a whole number; got 1.5."),
        (["this", "--ratio", "0"], "--ratio must be more than 0; got 0."),
        (["this", "--ratio", "x"], "--ratio must be a number; got x."),
        (["this", "--level", "mid"], "--level must be 'low' or 'high'; got mid."),
        (["nothing"], "NAME must be something; got nothing."),
    ],
)
def test_wrong_value_is_one_line_with_the_option_the_limit_and_the_value(arguments: list[str], message: str) -> None:
    result = cli.run(show, arguments)
    assert (result.exit_code, result.stderr, result.stdout) == (2, f"show: {message}\n", "")


def test_wrong_value_of_a_variable_is_named_as_its_option() -> None:
    result = cli.run(show, ["this"], {"GANVAS_PORT": "70000"})
    assert result.stderr == "show: --port must be within [0, 65535]; got 70000.\n"


@pytest.mark.parametrize("arguments", [["this", "--nonsense"], [], ["this", "that"], ["this", "--port"]])
def test_unknown_or_missing_option_points_to_the_help(arguments: list[str]) -> None:
    result = cli.run(show, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("show: ")
    assert result.stderr.endswith(" See: ganvas show --help.\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("user", 1, "the disk is full."),
        ("usage", 2, "--how must be otherwise."),
        ("os", 1, "/nowhere: No such file or directory."),
        ("interrupt", 130, "interrupted."),
    ],
)
def test_failure_is_one_line_and_an_exit_code(how: str, code: int, message: str) -> None:
    result = cli.run(fail, ["--how", how])
    assert (result.exit_code, result.stderr, result.stdout) == (code, f"fail: {message}\n", "")


def test_help_has_every_option_with_its_text_limits_default_and_variable() -> None:
    text = " ".join(cli.run(show, ["--help"], {"COLUMNS": "200"}).stdout.split())
    for part in (
        "Show a thing.",
        "Example: ganvas show this",
        "What to show.",
        "Port to use [any]. (within [0, 65535]) [default: 50051]",
        "[env var: GANVAS_PORT]",
        "--dir",
        "Where. [default: here]",
        "low|high",
        "--no-color",
    ):
        assert part in text
    assert "GANVAS_QUIET" not in text


def test_options_of_lists_what_a_user_meets() -> None:
    options = {option.field: option for option in options_of(ShowOptions)}
    assert list(options) == ["name", "port", "ratio", "level", "tag", "color", "quiet", "folder"]
    assert options["name"].required
    assert (options["name"].typed, options["folder"].typed, options["port"].typed) == ("NAME", "--dir", "--port")
    assert [option.shown_default for option in options.values()] == [
        "required",
        "50051",
        "0.5",
        "low",
        "none",
        "on",
        "off",
        "here",
    ]
    assert (options["name"].env, options["port"].env, options["quiet"].env) == (None, "GANVAS_PORT", None)
    assert (options["port"].limits, options["ratio"].limits, options["tag"].limits) == (
        "within [0, 65535]",
        "more than 0",
        "",
    )
    assert options["port"].help == "Port to use [any]."


def test_option_of_a_base_class_keeps_its_help() -> None:
    @dataclass(frozen=True, kw_only=True, config=OPTIONS)
    class More(FailOptions):
        extra: int = 1
        """More."""

    assert [(option.field, option.help) for option in options_of(More)] == [("how", "Which way."), ("extra", "More.")]


def test_field_without_a_docstring_is_a_defect() -> None:
    @dataclass(frozen=True, kw_only=True, config=OPTIONS)
    class Bare:
        port: int = 1

    with pytest.raises(TypeError, match=r"Bare\.port has no docstring"):
        options_of(Bare)


def test_field_of_another_type_is_a_defect() -> None:
    @dataclass(frozen=True, kw_only=True, config=OPTIONS)
    class Odd:
        table: dict[str, int]
        """A table."""

    def odd(options: Odd) -> None:
        """Odd."""

    odd.__annotations__["options"] = Odd
    with pytest.raises(TypeError, match="an option cannot be of type"):
        cli.run(odd, [])


def test_nested_field_is_named_by_its_path() -> None:
    @dataclass(frozen=True, kw_only=True, config=OPTIONS)
    class Inner:
        height: int

    @dataclass(frozen=True, kw_only=True, config=OPTIONS)
    class Outer:
        image: Inner

    with pytest.raises(ValidationError) as caught:
        Outer(image={"height": "tall"})  # type: ignore[arg-type]
    assert describe_validation_error(caught.value) == "image.height must be a whole number; got 'tall'."
