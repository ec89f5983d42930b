# SPDX-License-Identifier: Apache-2.0
"""tools/devnet demo, as a newcomer sees it."""
import os
import re
import subprocess

from harness import BUILD, DEADLINE_S, ROOT


def test_the_demo_shows_each_step_and_passes(tmp_path):
    done = subprocess.run([str(ROOT / "tools/devnet"), "demo", "--build", str(BUILD)], cwd=ROOT,
                          env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True,
                          text=True, timeout=4 * DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = ("all nodes derive the same key", "killing node-2", "starting node-2 again",
             "cutting node-3 off", "and refuses a QUORUM write: ", "healing the cable of node-3",
             "the nodes are compared", "all 3 nodes hold the same, and every one of ",
             "the demo passed")
    at = 0
    for step in steps:
        assert step in done.stdout[at:], "%r is missing:\n%s" % (step, done.stdout)
        at += done.stdout[at:].index(step)
    rows = re.findall(r"^  node-\d +(\d+)  ([0-9a-f]{16})$", done.stdout, re.M)
    assert len(rows) == 3 and len(set(rows)) == 1
    assert not list(tmp_path.iterdir())
