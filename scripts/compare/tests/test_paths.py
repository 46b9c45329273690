"""The rows: complete, told apart by name, and made of systems that there are."""

import unittest

from compare.paths import PATHS, SYSTEMS, Limits, arenas, pick


class Paths(unittest.TestCase):
    def test_names_are_unique_and_systems_exist(self):
        names = [path.name for path in PATHS]
        self.assertEqual(len(names), len(set(names)))
        for path in PATHS:
            self.assertIn(path.ours, SYSTEMS)
            self.assertIn(path.peer, SYSTEMS)

    def test_only_rows_for_information_have_no_limits(self):
        for path in PATHS:
            self.assertEqual(path.extra, path.limits == Limits(), path.name)

    def test_all_ten_paths_are_there(self):
        seen = {(path.ours, path.command, path.pipeline) for path in PATHS}
        for wanted in (
            ("trefoil", "get", 1),
            ("trefoil", "set", 1),
            ("trefoil", "get", 16),
            ("trefoil", "set", 16),
            ("trefoil durable", "set", 1),
            ("trefoil durable", "set", 16),
            ("trefoil semi-sync", "set", 1),
            ("trefoil semi-sync", "set", 16),
            ("trefoil semi-sync durable", "set", 1),
            ("trefoil leaderless", "set", 1),
            ("trefoil leaderless", "set", 16),
            ("trefoil leaderless", "get", 1),
            ("trefoil leaderless", "get", 16),
            ("trefoil multi-leader", "set", 1),
        ):
            self.assertIn(wanted, seen)

    def test_rows_of_the_same_systems_share_an_arena(self):
        found = arenas(PATHS)
        self.assertEqual(sum(map(len, found.values())), len(PATHS))
        names = [path.name for path in found["trefoil", "redis everysec"]]
        self.assertEqual(names, ["get", "set", "get-p16", "set-p16"])

    def test_a_name_that_is_none_is_refused(self):
        self.assertEqual([path.name for path in pick(PATHS, ["set", "get"])], ["get", "set"])
        with self.assertRaisesRegex(ValueError, "no `sett`"):
            pick(PATHS, ["sett"])


if __name__ == "__main__":
    unittest.main()
