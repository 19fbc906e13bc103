"""Texts of jobs, as others can take them."""

from __future__ import annotations

import pytest

from frappe_jobs.errors import JobFailed
from frappe_jobs.texts.error_text import bounded, described, presentable, safe, traceback_of


@pytest.mark.parametrize(
    "text, kept",
    [
        ("plain", "plain"), ("für 價 😀", "für 價 😀"), ("a\0b", "a\\x00b"),
        ("\ud800", "\\ud800"), ("ü\udcff\0", "ü\\udcff\\x00"), ("", ""),
    ],
)  # fmt: skip
def test_what_redis_and_databases_refuse_is_spelled_otherwise(text, kept):
    assert safe(text) == kept
    assert safe(kept) == kept
    kept.encode()


def test_of_a_long_text_head_and_tail_are_kept_in_the_length_that_is_allowed():
    text = "<" + "x" * 10_000 + ">"
    kept = bounded(text, 500)
    assert len(kept) == 500
    assert kept[0] + kept[-1] == "<>"
    assert "of 10,002 characters" in kept
    assert bounded(kept, 500) == kept
    assert bounded(text, 10_002) == text


class Broken(Exception):
    """Whatever is asked of it, it raises."""

    def __str__(self):
        raise KeyboardInterrupt

    def __repr__(self):
        raise SystemExit

    @property
    def __notes__(self):
        raise GeneratorExit


class Odd(SyntaxError):
    """Python's own formatting trips over it."""

    lineno = property(lambda self: 1 / 0)
    filename = text = "x"


def type_name(error):
    return type(error).__name__


def raised(error):
    try:
        raise error
    except BaseException as caught:  # noqa: B036 - that is what is tested
        return caught


@pytest.mark.parametrize("error", [Broken(), Odd("x"), KeyboardInterrupt("x")], ids=type_name)
def test_any_error_can_be_described_and_has_a_traceback(error):
    error = raised(error)
    assert described(error).startswith(type(error).__name__)
    assert "in raised" in traceback_of(error)


def test_an_error_that_others_can_take_is_presented_as_itself():
    error = raised(ValueError("x"))
    assert presentable(error) is error


@pytest.mark.parametrize(
    "error",
    [
        Broken(),
        KeyboardInterrupt("x"),
        ValueError("\ud800"),
        ValueError("x" * 10**6),
        ValueError(lambda: 0),
    ],
    ids=type_name,
)
def test_any_other_one_is_a_job_that_failed_at_the_same_place(error):
    error = raised(error)
    shown = presentable(error)
    assert type(shown) is JobFailed
    assert shown.__traceback__ is error.__traceback__
    assert str(shown).startswith(type(error).__name__)
    assert presentable(shown) is shown
