"""A command line from one options dataclass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from ganvas_core.cli import OPTIONS, Cli, UsageError, UserError, describe_validation_error, options_of, run_verbs
from tests.support import cli


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class ShowOptions:
    name: Annotated[str, Cli(positional=True)]
    """What to show."""
    port: Annotated[int, Field(ge=0, le=65535)] = 50051
    """Port to use [any]."""
    ratio: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
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
    "os without a file": OSError(28, "No space left on device"),
    "os without a number": OSError("the pipe is gone"),
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
    assert result.stderr.endswith(" See: ./ganvas show --help.\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("user", 1, "the disk is full."),
        ("usage", 2, "--how must be otherwise."),
        ("os", 1, "/nowhere: No such file or directory."),
        ("os without a file", 1, "No space left on device."),
        ("os without a number", 1, "the pipe is gone."),
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


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class LimitOptions:
    low: Annotated[int, Field(ge=1)] = 1
    """Has a lowest value."""
    high: Annotated[float, Field(le=3)] = 0
    """Has a highest value."""
    between: Annotated[float, Field(ge=0, lt=1)] = 0
    """Lies between two."""
    maybe: Annotated[int | None, Field(ge=2)] = None
    """May be left out."""
    elsewhere: Annotated[int, Cli(env="ELSEWHERE")] = 1
    """Has a variable of another name."""


def limit(options: LimitOptions) -> None:
    """Limit."""
    print(options)


@pytest.mark.parametrize(
    ("flag", "accepted", "rejected", "rule"),
    [
        ("--low", "1", "0", "at least 1"),
        ("--high", "3", "3.5", "at most 3"),
        ("--between", "0", "1", "at least 0 and less than 1"),
        ("--maybe", "2", "1", "at least 2"),
    ],
)
def test_limit_is_exact_and_in_words(flag: str, accepted: str, rejected: str, rule: str) -> None:
    assert cli.run(limit, [flag, accepted]).exit_code == 0
    assert cli.run(limit, [flag, rejected]).stderr == f"limit: {flag} must be {rule}; got {rejected}.\n"


@pytest.mark.parametrize("port", ["0", "65535"])
def test_ends_of_a_range_are_accepted(port: str) -> None:
    assert f"port={port}," in cli.run(show, ["this", "--port", port]).stdout


def test_variable_of_another_name_replaces_the_usual_one() -> None:
    assert "elsewhere=5" in cli.run(limit, [], {"ELSEWHERE": "5", "GANVAS_ELSEWHERE": "6"}).stdout


def test_empty_variable_is_no_value() -> None:
    assert "port=50051" in cli.run(show, ["this"], {"GANVAS_PORT": ""}).stdout


@pytest.mark.parametrize(("value", "color"), [("0", False), ("off", False), ("1", True)])
def test_variable_turns_a_flag_on_or_off(value: str, color: bool) -> None:
    assert f"color={color}" in cli.run(show, ["this"], {"GANVAS_COLOR": value}).stdout


def test_variable_of_a_flag_that_is_neither_on_nor_off_is_rejected() -> None:
    result = cli.run(show, ["this"], {"GANVAS_COLOR": "maybe"})
    assert result.exit_code == 2
    assert "GANVAS_COLOR" in result.stderr


def test_option_that_may_repeat_takes_the_words_of_its_variable() -> None:
    assert "tag=('a', 'b')" in cli.run(show, ["this"], {"GANVAS_TAG": "a b"}).stdout


@pytest.mark.parametrize(("arguments", "option"), [([""], "NAME"), (["x", "--dir", ""], "--dir")])
def test_empty_text_is_rejected(arguments: list[str], option: str) -> None:
    assert cli.run(show, arguments).stderr == f"show: {option} must not be empty.\n"


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e400"])
def test_number_that_is_not_finite_is_named_as_such(number: str) -> None:
    result = cli.run(show, ["x", "--ratio", number])
    assert result.stderr == f"show: --ratio must be a finite number more than 0; got {number}.\n"


def test_long_value_is_cut_in_the_message() -> None:
    result = cli.run(show, ["this", "--port", "x" * 61])
    assert result.stderr == f"show: --port must be a whole number; got {'x' * 60}.\n"


def test_value_in_the_message_is_ascii() -> None:
    result = cli.run(show, ["this", "--port", "\x1b[2Jé"])
    assert result.stderr == "show: --port must be a whole number; got \\x1b[2J\\xe9.\n"


def test_verb_without_options_given_is_told_which_one_is_missing() -> None:
    assert "'--how'" in cli.run(fail, []).stderr


def test_command_line_without_arguments_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_verbs(show, fail, arguments=[])
    assert ended.value.code == 0
    words = capsys.readouterr().out.split()
    assert {"show", "fail"} <= set(words)


def test_verb_is_chosen_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_verbs(show, fail, arguments=["fail", "--how", "user"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "fail: the disk is full.\n"


def test_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_verbs(show, fail, arguments=["dance"])
    assert ended.value.code == 2
    assert "No such command 'dance'" in capsys.readouterr().err


def test_arguments_are_those_of_the_process_when_none_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ganvas", "show", "that"])
    with pytest.raises(SystemExit):
        run_verbs(show)
    assert "name='that'" in capsys.readouterr().out


def test_defect_of_a_verb_keeps_its_traceback() -> None:
    def broken(options: LimitOptions) -> None:
        """Break."""
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(broken, [])


def test_missing_field_is_named_without_the_whole_object() -> None:
    @dataclass(frozen=True, kw_only=True, config=OPTIONS)
    class Size:
        height: int

    with pytest.raises(ValidationError) as caught:
        Size(**{})
    assert describe_validation_error(caught.value).startswith("height ")
    assert "got" not in describe_validation_error(caught.value)
