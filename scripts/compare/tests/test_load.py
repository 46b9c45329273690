"""What load generators are told, and what is made of what they say."""

import os
import unittest
from unittest import mock

from compare import load
from compare.load import Work
from compare.run import Settings, steps, work_of
from compare.paths import PATHS, pick

SETTINGS = Settings(rounds=2, seconds=1, warm_up_seconds=0, keys=1000, quick=True)


class System:
    """Three nodes, the second of which leads."""

    name = "trefoil"

    def leader(self):
        return [7002]

    def all_nodes(self):
        return [7001, 7002, 7003]


def words(work):
    """The command line of a run, without the program."""
    with mock.patch.dict(os.environ, {"TREFOIL": "trefoil"}):
        command = load.bench_command(System(), work, seed=1)
    return " ".join(map(str, command[1:])) + " "


class Load(unittest.TestCase):
    def test_clients_go_to_the_leader_or_are_dealt_over_all_nodes(self):
        self.assertIn("--addr 127.0.0.1:7002 ", words(Work()))
        dealt = "--addr 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 "
        self.assertIn(dealt, words(Work(any_node=True)))

    def test_only_the_peer_is_sent_a_wait_and_behind_each_set(self):
        row = pick(PATHS, ["semi-sync-set-p16"])[0]
        self.assertNotIn("--then", words(work_of(row, SETTINGS, ours=True)))
        self.assertIn("--then WAIT 1 1000 --then-each ", words(work_of(row, SETTINGS, ours=False)))
        row = pick(PATHS, ["semi-sync-set-p16-one-wait"])[0]
        peer = words(work_of(row, SETTINGS, ours=False))
        self.assertTrue("--then WAIT 1 1000 " in peer and "--then-each" not in peer, peer)

    def test_quantiles_are_those_of_all_operations(self):
        done = load.from_latencies(list(range(1000, 0, -1)), seconds=2)
        self.assertEqual((done["operations"], done["ops_per_second"]), (1000, 500))
        self.assertEqual((done["p50_us"], done["p999_us"], done["max_us"]), (501, 1000, 1000))

    def test_system_calls_are_read_from_what_perf_says(self):
        said = "# started on ...\n\n205000,,raw_syscalls:sys_enter,100,100.00,,\n"
        self.assertEqual(load.counted_by_perf(said), 205_000)
        self.assertIsNone(load.counted_by_perf("<not counted>,,raw_syscalls:sys_enter,0,,,\n"))

    def test_every_step_is_told(self):
        rows = pick(PATHS, ["get", "set", "durable-set"])
        # Two arenas are started; each row has its rounds, and the counting of system calls.
        self.assertEqual(steps(rows, SETTINGS), 2 + 3 * 3)


if __name__ == "__main__":
    unittest.main()
