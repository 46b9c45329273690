"""Spread, ratios, verdicts and growth."""

import unittest

from compare import figures
from compare.paths import Limits


def runs(**fields):
    """Runs from a list for each field."""
    return [dict(zip(fields, values)) for values in zip(*fields.values())]


class Figures(unittest.TestCase):
    def test_one_slow_run_moves_no_median(self):
        slow = figures.spread(runs(p50_us=[3, 100, 1, 2, 2]), "p50_us")
        self.assertEqual(slow, figures.Spread(1, 2, 100))

    def test_what_was_not_measured_has_no_figure(self):
        self.assertIsNone(figures.spread([{"p50_us": None}, {}], "p50_us"))
        self.assertIsNone(figures.ratio([], [{"p50_us": 1}], "p50_us"))
        self.assertIsNone(figures.ratio([{"p50_us": 1}], [{"p50_us": 0}], "p50_us"))

    def test_a_row_reaches_its_targets_by_medians(self):
        ours = runs(server_cpu_us_per_op=[4, 5, 99], ops_per_second=[20, 24, 1])
        peer = runs(server_cpu_us_per_op=[10, 10, 10], ops_per_second=[10, 10, 10])
        found = figures.verdicts(Limits(0.5, 2.1, 2.0), ours, peer, syscalls=2.1)
        self.assertEqual(found["cpu"], figures.Verdict(0.5, 0.5, at_most=True))
        self.assertTrue(found["cpu"].reached)
        self.assertFalse(found["ops"].reached)
        self.assertEqual(found["ops"].figure, 2.0)
        self.assertFalse(found["syscalls"].reached)

    def test_what_is_not_asked_has_no_verdict_and_what_is_unknown_is_not_missed(self):
        found = figures.verdicts(Limits(syscalls_at_most=2.0), [], [], syscalls=None)
        self.assertEqual(list(found), ["syscalls"])
        self.assertIsNone(found["syscalls"].reached)

    def test_others_on_the_machine_show(self):
        quiet, busy = runs(other_cpu_percent=[1, 2]), runs(other_cpu_percent=[40, 60, 80])
        self.assertFalse(figures.is_noisy(figures.noise(quiet)))
        self.assertTrue(figures.is_noisy(figures.noise(quiet, busy)))
        self.assertFalse(figures.is_noisy(figures.noise([])))

    def test_the_first_error_is_told_with_their_number(self):
        met = [{"errors": 0}, {"errors": 2, "first_error": "-OOM"}, {"errors": 1}]
        self.assertEqual(figures.first_error(met), "3 errors, the first: -OOM")
        self.assertIsNone(figures.first_error([{"errors": 0}]))

    def test_growth_is_by_unit_of_work(self):
        self.assertEqual(figures.growth([2, 2, 5]), [(None, False), (1, False), (2.5, True)])
        by_bytes = figures.growth([1, 10, 200], [10, 100, 1000])
        self.assertEqual(by_bytes, [(None, False), (1, False), (2, True)])
        self.assertEqual(figures.growth([None, 3, 3])[1:], [(None, False), (1, False)])


if __name__ == "__main__":
    unittest.main()
