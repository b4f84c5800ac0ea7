"""Files and functions stay short; an exception is a record in docs/adr."""

from __future__ import annotations

from tests.architecture.sizes import CHECKOUT, EXCEPTIONS, PACKAGE, offenders, too_large


def test_every_file_and_function_is_within_its_budget() -> None:
    assert offenders() == []


def test_a_long_file_is_named() -> None:
    assert too_large("ops/long.py", "x = 1\n" * 451) == ["ops/long.py: 451 lines, 450 at most"]


def test_a_long_function_is_named() -> None:
    source = "def short():\n    return 1\n\n\ndef long():\n" + "    x = 1\n" * 60
    assert too_large("ops/long.py", source) == ["ops/long.py:long: 61 lines, 60 at most"]


def test_the_docstring_of_a_function_does_not_count() -> None:
    source = 'def f():\n    """One.\n\n' + "    more\n" * 80 + '    """\n' + "    x = 1\n" * 59
    assert too_large("ops/long.py", source) == []


def test_every_exception_still_stands_for_something_and_has_a_record() -> None:
    for place, record in EXCEPTIONS.items():
        assert (PACKAGE / place.partition(":")[0]).is_file(), place
        assert list((CHECKOUT / "docs" / "adr").glob(f"{record}-*.md")), record
