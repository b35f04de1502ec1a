"""How many threads take a step, by what steps have lately taken."""

import pytest

from vae_ref.engines.team import LONGEST, WIDEST, WINDOW, Team


class Machine:
    """Steps that take as long as a test says, by the number of threads and by what was before."""

    def __init__(self, seconds):
        self.seconds, self.now, self.taken = seconds, 0.0, []

    def take(self, threads):
        self.now += self.seconds(threads, self)
        self.taken.append(threads)

    def run(self, steps, threads=2):
        team = Team(threads, clock=lambda: self.now)
        for _ in range(steps):
            team.step(self.take)
        return self.taken


def free(threads, machine):
    return 1 / threads


def busy(threads, machine):
    return {1: 1.0, 2: 5.0}[threads]


def test_a_free_machine_is_used_whole():
    taken = Machine(free).run(10_000)
    assert taken.count(1) < 60  # half of them know after half a window


def test_beside_a_busy_process_few_threads_are_faster():
    taken = Machine(busy).run(20_000)
    assert taken[4 * WINDOW :].count(2) < 100
    assert 2 in taken[-2 * LONGEST :]  # all are tried again


@pytest.mark.parametrize("change", [3000, 12_000])
def test_a_change_of_the_machine_is_noticed(change):
    """At once where steps take longer, and else when the other number is tried again."""
    machine = Machine(lambda *of: (free if len(of[1].taken) < change else busy)(*of))
    assert machine.run(change + 3000)[change : change + 3000].count(2) < 5 * WINDOW
    machine = Machine(lambda *of: (busy if len(of[1].taken) < change else free)(*of))
    taken = machine.run(change + 2 * LONGEST)
    assert taken[change + LONGEST + WIDEST :].count(1) < 4 * WINDOW


def test_a_first_window_that_is_slow_decides_nothing_for_good():
    def seconds(threads, machine):
        return {1: 10.0 if len(machine.taken) < 40 else 1.0, 2: 5.0}[threads]

    assert Machine(seconds).run(50_000)[-2 * LONGEST :].count(2) < 100


def test_a_hiccup_costs_a_few_steps():
    def seconds(threads, machine):
        return free(threads, machine) + 100 * (len(machine.taken) == 5000)

    taken = Machine(seconds).run(10_000)
    assert taken[5000:].count(1) < 2 * WINDOW


@pytest.mark.parametrize("cores", [1.2, 1.4, 1.5, 1.8])
def test_a_quota_of_a_container_is_used(cores):
    """As under `docker --cpus`: who has used up the share of 100 ms waits for the next.

    A step needs 3 ms of a core. Both threads together are stopped again and again, but they are
    faster if more than one core is granted.
    """
    budget, used, period = 100e-3 * cores, [0.0], [0]

    def seconds(threads, machine):
        took = 3e-3 / threads
        now = machine.now
        if int(now / 0.1) != period[0]:
            period[0], used[0] = int(now / 0.1), 0.0
        used[0] += 3e-3
        if used[0] > budget:
            took += (int(now / 0.1) + 1) * 0.1 - now
        return took

    machine = Machine(seconds)
    machine.run(20_000)
    always = Machine(seconds)
    period[0], used[0] = 0, 0.0
    for _ in range(20_000):
        always.take(2)
    assert machine.now < 1.2 * always.now


def test_an_interrupted_step_is_forgotten():
    team = Team(2)

    def interrupt(threads):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        team.step(interrupt)
    team.step(lambda threads: None)
    assert team.steps == 1


def test_a_single_thread_has_no_choice():
    assert set(Machine(lambda threads, machine: 1.0).run(500, threads=1)) == {1}


def test_half_of_many_threads_are_few():
    taken = Machine(lambda threads, machine: {5: 1.0, 9: 5.0}[threads]).run(500, threads=9)
    assert set(taken[4 * WINDOW :]) == {5, 9}
    assert taken[4 * WINDOW :].count(9) < 25
