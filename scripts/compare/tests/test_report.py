"""What a reader is shown, from runs that were made up."""

import json
import unittest

from compare import page, report, tables
from compare.growth import Column, Table
from compare.paths import Limits, Path
from compare.processes import Failed
from compare.run import Result, Settings, Side

PATH = Path("set", "SET, one node", "trefoil", "redis everysec", "set", 1, Limits(0.85, 1.15, 2.2))
SETTINGS = Settings(rounds=1, seconds=1, warm_up_seconds=0, keys=10, quick=True)


def measured(cpu, ops, **more):
    """One run with so much CPU time for each operation."""
    return {"server_cpu_us_per_op": cpu, "ops_per_second": ops, "p50_us": 400, **more}


def result(ours, peer, syscalls):
    """A row with one run of each."""
    return Result(PATH, Side([ours], syscalls, 200), Side([peer], 2.05, 210))


class Report(unittest.TestCase):
    def test_a_row_says_what_it_missed(self):
        row = report.verdict_row(result(measured(9, 120_000), measured(10, 100_000), 2.1))
        self.assertEqual(row[4:7], ["0.9 (≤ 0.85) ✗", "1.2 (≥ 1.15)", "2.1 (≤ 2.20)"])
        self.assertEqual(row[7], "missed: cpu")

    def test_what_is_not_measured_is_neither_reached_nor_missed(self):
        row = report.verdict_row(result(measured(8, 120_000), measured(10, 100_000), None))
        self.assertEqual(row[6:], ["– (≤ 2.20)", "reached (not measured: syscalls)"])

    def test_noise_and_errors_are_told(self):
        noisy = result(
            measured(8, 120_000, other_cpu_percent=50, errors=1, first_error="-UNKNOWN", misses=2),
            measured(10, 100_000, other_cpu_percent=60),
            2.0,
        )
        self.assertEqual(report.verdict_word(noisy), "reached, noisy")
        remarks = report.result_remarks(noisy)
        self.assertIn("set, trefoil: 1 errors, the first: -UNKNOWN", remarks)
        self.assertIn("set, trefoil: 2 reads found nothing", remarks)

    def test_a_failed_row_is_in_the_report(self):
        failed = Result(PATH, failure="redis' start: not within 60 s\nits log")
        self.assertEqual(report.verdict_row(failed)[-1], "failed")
        text = report.as_text([failed], [])
        self.assertIn("set failed: redis' start: not within 60 s its log", text)
        document = json.loads(report.as_json({}, SETTINGS, [failed], []))
        self.assertIn("its log", document["paths"][0]["failure"])

    def test_programs_get_every_run(self):
        done = result(measured(8, 120_000), measured(10, 100_000), 2.1)
        document = json.loads(report.as_json({"cores": 2}, SETTINGS, [done], []))
        row = document["paths"][0]
        self.assertEqual(row["ratios"]["server_cpu_us_per_op"], 0.8)
        self.assertEqual(row["ours_measured"]["ops_per_second"]["median"], 120_000)
        self.assertEqual(row["peer_measured"]["runs"][0]["ops_per_second"], 100_000)
        self.assertTrue(row["verdicts"]["cpu"]["reached"])

    def test_growth_marks_what_is_more_than_linear(self):
        columns = [Column("keys", "keys"), Column("seconds", "s", grows=True, work="keys")]
        lines = [{"keys": 10, "s": 1.0}, {"keys": 100, "s": 10.0}, {"keys": 1000, "s": 200.0}]
        head, rows = Table("growth-x", "X", columns, lines).cells()
        self.assertEqual(head, ["keys", "seconds", "×"])
        self.assertEqual([row[2] for row in rows], ["–", "1.00", "2.00 ▲"])


class Page(unittest.TestCase):
    def test_only_what_is_between_the_markers_changes(self):
        before = "# A\n<!-- paths: begin -->\nold\n<!-- paths: end -->\nnotes\n"
        after = page.replaced(before, "paths", "| new |")
        self.assertEqual(
            after, "# A\n<!-- paths: begin -->\n\n| new |\n\n<!-- paths: end -->\nnotes\n"
        )
        self.assertEqual(page.replaced(after, "paths", "| new |"), after)

    def test_a_page_without_markers_is_left_alone(self):
        with self.assertRaisesRegex(Failed, "growth: begin"):
            page.replaced("# A\n", "growth", "x")

    def test_a_quick_run_says_that_it_is_one(self):
        done = result(measured(8, 120_000), measured(10, 100_000), 2.1)
        section = page.paths_section({"cores": 2}, SETTINGS, [done])
        self.assertIn("not to be quoted", section)
        self.assertIn("| set | SET, one node | 1 | redis everysec | 0.8 (≤ 0.85) |", section)


class Numbers(unittest.TestCase):
    def test_figures_are_short(self):
        shown = [tables.number(n) for n in (None, 0.5, 2, 12.34, 999, 9999, 123_456, 1_500_000)]
        self.assertEqual(shown, ["–", "0.50", "2", "12.3", "999", "9999", "123k", "1.50M"])

    def test_columns_line_up(self):
        shown = tables.text(["name", "ops"], [["a", "5"], ["long", "12.5"]])
        wanted = ["name   ops", "----  ----", "a        5", "long  12.5"]
        self.assertEqual(shown.splitlines(), wanted)


if __name__ == "__main__":
    unittest.main()
