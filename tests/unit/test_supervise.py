"""The pure parts of supervise: the command, the output, and the plan of restarts."""

from __future__ import annotations

from itertools import pairwise
from signal import SIGKILL, SIGTERM, SIGUSR1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfastcgi.config import HostConfig
from gfastcgi.errors import SpawnError
from gfastcgi.supervise.command import make_command
from gfastcgi.supervise.ending import end, plan_ending
from gfastcgi.supervise.output import MAX_LINE, LineSplitter
from gfastcgi.supervise.restarts import LONGEST_PAUSE, STABLE, Restarts

ENVIRON = {"PATH": "/usr/bin:/bin", "HOME": "/root", "USER": "www"}


def command(bin_path="/opt/app/run", **options):
    return make_command(HostConfig(bin_path=bin_path, **options), ENVIRON)


# The command


def test_words_are_split_like_a_shell_does():
    made = command("/opt/my/app --title 'two words' \"a b\" c\\ d")
    assert made.words == ("/opt/my/app", "--title", "two words", "a b", "c d")
    assert str(made) == "/opt/my/app --title 'two words' 'a b' 'c d'"


def test_it_starts_in_the_folder_of_the_program():
    assert command("/opt/app/run -x").folder == "/opt/app"


def test_a_relative_path_still_leads_to_the_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = command("bin/app")
    assert (made.words, made.folder) == ((str(tmp_path / "bin/app"),), str(tmp_path / "bin"))


def test_a_bare_name_is_looked_up_in_path_then_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("sh").words[0] in ("/usr/bin/sh", "/bin/sh")
    assert command("test.py").words == (str(tmp_path / "test.py"),)
    assert command("test.py").folder is None


@pytest.mark.parametrize("bin_path", ["/bin/app 'unclosed", "  "])
def test_a_bin_path_without_words_is_a_spawn_error(bin_path):
    with pytest.raises(SpawnError, match="gw-backend failed to start"):
        command(bin_path)


def test_the_whole_environment_is_passed_on():
    assert command().environment == {**ENVIRON, "PHP_FCGI_CHILDREN": "1"}


def test_bin_copy_environment_starts_from_nothing():
    made = command(bin_copy_environment=("PATH", "SHELL"), bin_environment=(("PHP_FCGI_MAX_REQUESTS", "10000"),))
    assert made.environment == {"PATH": ENVIRON["PATH"], "PHP_FCGI_MAX_REQUESTS": "10000", "PHP_FCGI_CHILDREN": "1"}


def test_bin_environment_wins():
    assert command(bin_environment=(("HOME", "/srv"),)).environment["HOME"] == "/srv"


@pytest.mark.parametrize(
    ("options", "capacity"),
    [
        ({}, 1),
        ({"bin_environment": (("PHP_FCGI_CHILDREN", "16"),)}, 16),
        ({"bin_environment": (("PHP_FCGI_CHILDREN", "0"),)}, 1),
        ({"bin_environment": (("PHP_FCGI_CHILDREN", "many"),)}, 1),
        ({"bin_environment": (("PHP_FCGI_CHILDREN", "16"),), "max_connections": 5}, 5),
    ],
)
def test_capacity(options, capacity):
    assert command(**options).capacity == capacity


# The output


def test_lines_are_whole_escaped_and_not_empty():
    splitter = LineSplitter()
    assert splitter.feed(b"one\r\n\ntwo \x1b[31m\xff\nthr") == ["one", r"two \x1B[31m\xFF"]
    assert splitter.feed(b"ee\n") == ["three"]
    assert splitter.feed(b"rest") == []
    assert splitter.close() == ["rest"]
    assert splitter.close() == []


def test_a_line_without_end_costs_no_memory():
    splitter = LineSplitter()
    lines = [line for _ in range(100) for line in splitter.feed(b"x" * 1000)] + splitter.close()
    assert max(map(len, lines)) == MAX_LINE
    assert sum(map(len, lines)) == 100_000


@given(st.lists(st.text(st.sampled_from("abc \n"), max_size=30)))
def test_lines_do_not_depend_on_how_they_arrive(pieces):
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece.encode())] + splitter.close()
    assert lines == [line for line in "".join(pieces).split("\n") if line]


# The end


class Deaf:
    """A process that ends by the signal that `ends_by` names; the clock stands still but for waits."""

    def __init__(self, clock, ends_by, after=0.0):
        self.clock, self.ends_by, self.after = clock, ends_by, after
        self.pid, self.got, self.has_ended = 1, [], False
        self.is_clean = False

    def wait(self, timeout):
        if not self.has_ended:
            self.clock.now += timeout
        return self.has_ended

    def kill(self, number):
        self.got.append((self.clock.now, number))
        self.has_ended = self.has_ended or (number == self.ends_by and self.clock.now >= self.after)

    def kill_group(self, number):
        self.kill(-number)

    def clean_up(self):
        self.is_clean = True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_process_that_listens_gets_one_signal():
    clock = Clock()
    process = Deaf(clock, SIGUSR1)
    assert end([process], plan_ending(SIGUSR1), clock=clock) == []
    assert (process.got, clock.now, process.is_clean) == ([(0.0, SIGUSR1)], 0.0, True)


def test_a_deaf_process_gets_signal_after_signal():
    clock = Clock()
    process = Deaf(clock, -SIGKILL)
    assert end([process], plan_ending(SIGUSR1), clock=clock) == []
    asks = [(float(second), SIGUSR1) for second in (0, 5, 6, 7, 8)]
    terms = [(float(second), -SIGTERM) for second in range(9, 16)]
    assert process.got == [*asks, *terms, (16.0, -SIGKILL)]


def test_a_slow_process_is_asked_again():
    clock = Clock()
    process = Deaf(clock, SIGUSR1, after=6)
    end([process], plan_ending(SIGUSR1), clock=clock)
    assert [when for when, _ in process.got] == [0, 5, 6]


def test_a_shorter_limit_shrinks_the_plan():
    clock = Clock()
    processes = [Deaf(clock, -SIGKILL), Deaf(clock, SIGTERM)]
    assert end(processes, plan_ending(SIGTERM, 8), clock=clock) == []
    assert [len(process.got) for process in processes] == [13, 1]
    assert clock.now == 8
    assert processes[0].got[5] == (4.5, -SIGTERM)


def test_what_nothing_ends_is_told():
    clock = Clock()
    process = Deaf(clock, None)
    assert end([process], plan_ending(SIGTERM), clock=clock) == [process]
    assert process.is_clean


# Restarts


def crash_at_once(restarts, ids, until):
    """Starts and ends all processes as soon as they are due; returns the times of the starts."""
    starts, now = [0.0] * len(ids), 0.0
    for id in ids:
        restarts.ended(id, started=0.0, now=0.01, has_served=False)
    while (now := restarts.next) is not None and now < until:
        for id in restarts.take_due(now):
            starts.append(now)
            restarts.ended(id, started=now, now=now + 0.01, has_served=False)
    return starts


def test_pauses_grow_to_a_minute():
    starts = crash_at_once(Restarts(), [0], 400)
    pauses = [round(later - earlier - 0.01, 3) for earlier, later in pairwise(starts)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]


@pytest.mark.parametrize(("procs", "most"), [(1, 6), (4, 9), (5, 10)])
def test_a_crash_loop_costs_at_most_10_starts_in_the_first_minute(procs, most):
    assert len(crash_at_once(Restarts(), range(procs), 60)) == most


def test_one_alone_is_tried_while_they_crash_and_the_others_follow():
    restarts = Restarts()
    for id in range(4):
        assert restarts.ended(id, started=0, now=0.01 + id / 100, has_served=False) == 1.01
    assert restarts.take_due(1.0) == []
    assert restarts.take_due(1.5) == [0]
    assert restarts.take_due(1.5 + STABLE - 0.1) == []
    assert restarts.take_due(1.5 + STABLE) == [1, 2, 3]
    assert restarts.next is None


def test_the_pauses_begin_anew_after_a_process_stayed_up():
    restarts = Restarts()
    restarts.ended(0, started=0, now=1, has_served=False)
    restarts.take_due(2)
    assert restarts.ended(0, started=2, now=3, has_served=False) == 3 + 2
    restarts.take_due(5)
    assert restarts.ended(0, started=5, now=5 + STABLE, has_served=False) == 5 + STABLE
    restarts.take_due(5 + STABLE)
    assert restarts.ended(0, started=5 + STABLE, now=16, has_served=False) == 16 + 1


def test_a_process_that_served_is_started_again_at_once_but_once_a_second():
    restarts = Restarts()
    assert restarts.ended(0, started=0, now=5, has_served=True) == 5
    assert restarts.take_due(5) == [0]
    assert restarts.ended(0, started=5, now=5.2, has_served=True) == 6
    assert restarts.take_due(5.9) == []
    assert restarts.take_due(6) == [0]


def test_a_process_that_served_and_left_in_order_is_started_again_at_once():
    """As PHP does after PHP_FCGI_MAX_REQUESTS."""
    restarts = Restarts()
    assert restarts.ended(0, started=0, now=0.1, has_served=True, is_orderly=True) == 0.1
    assert restarts.ended(1, started=0, now=0.1, has_served=False, is_orderly=True) == 1.1, "it served nobody"


def test_all_that_served_come_back_together():
    restarts = Restarts()
    for id in (1, 2):
        restarts.ended(id, started=0, now=4.0, has_served=True)
    assert restarts.due == {1: 4.0, 2: 4.0}
    assert restarts.take_due(4.0) == [1, 2]


def test_a_crash_is_over_when_a_process_served_or_stayed_up():
    restarts = Restarts()
    restarts.ended(0, started=0, now=1, has_served=False)
    assert restarts.is_crashing(1)
    restarts.take_due(2)
    assert restarts.is_crashing(2 + STABLE - 0.1)
    assert not restarts.is_crashing(2 + STABLE)
    restarts.ended(0, started=20, now=21, has_served=False)
    assert restarts.is_crashing(21)
    restarts.ended(1, started=20, now=22, has_served=True)
    assert not restarts.is_crashing(22)


def test_a_crash_is_over_when_another_process_serves():
    """A request may kill the process that answers it first; the others do not wait for that."""
    restarts = Restarts()
    for id in range(3):
        restarts.ended(id, started=0, now=1, has_served=False)
    assert restarts.take_due(2) == [0]
    assert restarts.next == 12
    restarts.recovered()
    assert restarts.take_due(2) == [1, 2]


def test_a_process_that_crashes_beside_others_that_serve_has_its_own_pauses():
    restarts = Restarts()
    pauses = [restarts.ended(0, started=now, now=now, has_served=False, is_alone=False) - now for now in range(8)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert restarts.ended(1, started=8, now=8, has_served=False, is_alone=False) == 9
    assert not restarts.is_crashing(8)
    restarts.ended(0, started=100, now=103, has_served=True)
    assert restarts.ended(0, started=104, now=104, has_served=False, is_alone=False) == 105


def test_one_that_is_started_for_the_load_ends_a_crash_as_well():
    restarts = Restarts()
    restarts.ended(0, started=0, now=1, has_served=False)
    restarts.take_due(2)
    restarts.started(30)
    assert restarts.is_crashing(31)
    assert not restarts.is_crashing(30 + STABLE)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 20), st.booleans()), max_size=40))
def test_every_process_comes_back_within_the_longest_pause(events):
    restarts, now = Restarts(), 0.0
    started = dict.fromkeys(range(4), 0.0)
    waiting = {}
    for id, seconds, has_served in events:
        now += seconds
        for back in restarts.take_due(now):
            del waiting[back]
            started[back] = now
        if id not in waiting:
            due = restarts.ended(id, started=started[id], now=now, has_served=has_served)
            waiting[id] = now
            assert now <= due <= now + LONGEST_PAUSE
    for _ in range(len(waiting)):
        if (due := restarts.next) is not None:
            assert due <= now + LONGEST_PAUSE + STABLE
            now = max(now, due)
            for back in restarts.take_due(now):
                del waiting[back]
    assert not waiting
