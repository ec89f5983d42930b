# SPDX-License-Identifier: Apache-2.0
"""The bench runs and reports; what it measures is nobody's pass or fail here."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("NOVA_BUILD_DIR", ROOT / "build")).resolve()


def test_bench_reports_every_call(tmp_path):
    report = tmp_path / "report.json"
    done = subprocess.run(
        [BUILD / "tools/bench/novakms-bench", "--node", BUILD / "src/nova-kms", "--only", "calls",
         "--only", "soak", "--only", "bulk", "--bytes", "1000000",
         "--window-ms", "100", "--rounds", "1", "--json", report],
        capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())
    for shape in ("1x1", "50x1", "50x16"):
        for call in ("Derive", "Get", "Put"):
            row = figures["calls"][f"{call}_{shape}"]
            assert row["call"]["requests_per_second"] > 0
            assert row["echo"]["server_cpu_us"] > 0
            assert row["cpu_ratio"] > 0
    assert len(figures["soak"]["resident_mib"]) == 10
    assert figures["bulk"]["seconds"] > 0


def test_bench_names_a_wrong_option():
    done = subprocess.run([BUILD / "tools/bench/novakms-bench", "--rounds", "21"],
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "--rounds: 21 is not allowed" in done.stderr
