"""How many threads take a step, by what steps have lately taken."""

import pytest

from vae_ref.engines.team import LONGEST, WINDOW, Team


class Machine:
    """Steps that take as long as a test says, by the number of threads and of steps before."""

    def __init__(self, seconds):
        self.seconds, self.now, self.taken = seconds, 0.0, []

    def take(self, threads):
        self.now += self.seconds(threads, len(self.taken))
        self.taken.append(threads)

    def run(self, steps, threads=2):
        team = Team(threads, clock=lambda: self.now)
        for _ in range(steps):
            team.step(self.take)
        return self.taken


def test_a_free_machine_is_used_whole():
    taken = Machine(lambda threads, step: 1 / threads).run(10_000)
    assert taken.count(1) == WINDOW  # once, to know how long they take


def test_beside_a_busy_process_few_threads_are_faster():
    taken = Machine(lambda threads, step: {1: 1.0, 2: 5.0}[threads]).run(20_000)
    busy = taken[2 * WINDOW :]
    assert busy.count(2) / len(busy) < 0.01
    assert 2 in busy[-2 * LONGEST :]  # all are tried again


@pytest.mark.parametrize("calm", [3000, 12_000])
def test_all_threads_return_when_the_process_is_gone(calm):
    taken = Machine(lambda t, step: 0.5 if t == 2 and step > calm else {1: 1.0, 2: 5.0}[t]).run(
        calm + 3000
    )
    assert set(taken[calm + LONGEST + 2 * WINDOW :]) == {2}


def test_a_hiccup_costs_a_few_steps():
    taken = Machine(lambda t, step: 1 / t + 100 * (step == 5000)).run(10_000)
    assert taken.count(1) == 2 * WINDOW
    assert set(taken[5000 + 2 * WINDOW :]) == {2}


def test_a_single_thread_has_no_choice():
    assert set(Machine(lambda threads, step: 1.0).run(500, threads=1)) == {1}


def test_half_of_many_threads_are_few():
    taken = Machine(lambda t, step: {5: 1.0, 9: 5.0}[t]).run(500, threads=9)
    assert set(taken[2 * WINDOW + 1 :]) == {5, 9}
    assert taken[2 * WINDOW + 1 :].count(9) < 25
