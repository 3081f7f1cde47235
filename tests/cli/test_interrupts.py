"""Ctrl-C is answered at once."""

from __future__ import annotations

import os
import signal
import threading

from mnist_trials.cli.interrupts import ANSWER, answered


def test_the_first_signal_is_answered_and_no_other_while_the_handler_is_somebody_elses() -> None:
    said: list[str] = []
    handled: list[int] = []
    heard = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        heard.set()

    before = signal.signal(signal.SIGINT, lambda number, frame: handled.append(number))
    try:
        with answered(say):
            os.kill(os.getpid(), signal.SIGINT)
            assert heard.wait(30)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert said == [ANSWER]
    assert handled == [signal.SIGINT, signal.SIGINT]


def test_other_signals_are_not_answered() -> None:
    said: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        with answered(said.append):
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert said == []


def test_nothing_is_left_behind() -> None:
    threads = threading.active_count()
    with answered(print):
        pass
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


def test_outside_the_main_thread_there_is_nothing_to_answer() -> None:
    done: list[bool] = []

    def run() -> None:
        with answered(print):
            done.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert done == [True]
