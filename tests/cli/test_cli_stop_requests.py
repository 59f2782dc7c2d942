"""Who answers a signal, and how often: signals that this process sends to itself."""

from __future__ import annotations

import os
import pty
import signal
from collections.abc import Iterator

import pytest

from mimi_edge.cli import interrupts
from mimi_edge.cli.stop_requests import ASKING, outliving_the_terminal, stop_requests
from mimi_edge.events import Event, Note

NUMBERS = [getattr(signal, name) for name in ASKING]


@pytest.fixture(autouse=True)
def _handlers_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interrupts.interrupt, "_last", -1e9)
    before = {number: signal.getsignal(number) for number in NUMBERS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def sent(number: signal.Signals) -> bool:
    """Whether a signal interrupted."""
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        return True
    return False


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_asks_and_the_second_insists(number: signal.Signals) -> None:
    heard: list[Event] = []
    with stop_requests(heard.append) as should_stop:
        assert not should_stop()
        assert not sent(number)
        assert should_stop()
        assert heard == [Note("Stopping after this step; once more to stop at once.")]
        assert sent(number)


@pytest.mark.parametrize("number", NUMBERS)
def test_before_anything_can_be_lost_a_signal_interrupts_at_once(number: signal.Signals) -> None:
    with stop_requests(lambda _: None):
        assert sent(number)


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_ignored_from_outside_stays_ignored(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    interrupts.ending_signals_interrupt()
    with stop_requests(lambda _: None) as should_stop:
        should_stop()
        signal.raise_signal(number)
        assert not should_stop()
        assert signal.getsignal(number) is signal.SIG_IGN
    assert signal.getsignal(number) is signal.SIG_IGN


def test_more_signals_do_not_break_into_the_tidying_up() -> None:
    interrupts.ending_signals_interrupt()
    assert sent(signal.SIGINT)
    assert not any(map(sent, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)))


def test_an_interrupt_that_was_lost_can_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts.ending_signals_interrupt()
    assert sent(signal.SIGINT)
    monkeypatch.setattr(interrupts, "SETTLING_SECONDS", 0)
    assert sent(signal.SIGINT)


def test_at_the_end_signals_change_nothing_any_more() -> None:
    interrupts.ending_signals_interrupt()
    interrupts.no_more_signals()
    for name in interrupts.ENDING:
        signal.raise_signal(getattr(signal, name))


def test_a_terminal_that_is_closed_ends_nothing() -> None:
    master, slave = pty.openpty()
    os.close(master)
    try:
        hear = outliving_the_terminal(lambda event: os.write(slave, event.text.encode()) and None)
        with pytest.raises(OSError, match="Input/output"):
            os.write(slave, b"hello")
        hear(Note("hello"))
    finally:
        os.close(slave)


def test_other_trouble_with_saying_is_not_hidden() -> None:
    def full(_: Event) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        outliving_the_terminal(full)(Note("hello"))
