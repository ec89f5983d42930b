# SPDX-License-Identifier: Apache-2.0
"""What alerts, dashboard and the operators' guide name exists in a node's metrics and sources."""
import re
import sys

import pytest

import harness

sys.path.insert(0, str(harness.ROOT / "tools"))

import monitoring_lib as monitoring  # noqa: E402

# Of these labels only values that were counted are shown.
SPARSE = {"code"}
# What Prometheus adds.
ADDED = {"job", "instance"}


@pytest.fixture(scope="module")
def series(node):
    """{metric: [its labels]}"""
    wallet, conn = node.new_app()
    with conn:
        conn.call("Put", key=b"k", value=b"v")
    found = {}
    for line in node.get("/metrics")[2].decode().splitlines():
        if sample := re.match(r"(nova_kms_\w+)(?:\{(.*)\})? \S+$", line):
            found.setdefault(sample[1], []).append(
                dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or "")))
    return found


def matches(value, operator, wanted):
    if operator in ("=~", "!~"):
        return re.fullmatch(wanted, value) is not None
    return value == wanted


def check(expr, series):
    for name, matchers in monitoring.selectors(expr):
        assert name in series, f"the node has no {name}"
        for label, operator, wanted in matchers:
            values = {labels.get(label) for labels in series[name]} - {None}
            if label in ADDED:
                continue
            assert values, f"{name} has no label {label}"
            if label not in SPARSE:
                # Also of what is left out: a name that nothing has leaves out nothing.
                for part in wanted.split("|") if operator in ("=~", "!~") else [wanted]:
                    assert any(matches(v, operator, part) for v in values), \
                        f"no {label} of {name} is {part}: {sorted(values)}"


def test_the_files_were_understood():
    assert len(monitoring.alert_exprs()) > 30
    assert len(monitoring.dashboard_exprs()) > 50
    assert all("nova_kms_" in expr for name, expr in monitoring.alert_exprs().items()
               if name != "NovaKmsDown")


@pytest.mark.parametrize("alert", sorted(monitoring.alert_exprs()))
def test_alert(series, alert):
    check(monitoring.alert_exprs()[alert], series)


def test_dashboard(series):
    for expr in monitoring.dashboard_exprs() + monitoring.dashboard_queries():
        check(expr, series)


def test_guide(series):
    """What the operators' guide names exists, and it names everything that there is."""
    named = set(re.findall(r"nova_kms_\w+", monitoring.GUIDE.read_text()))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in series}
    assert not named - families - set(series)
    assert not families - named


def test_guide_has_the_reasons():
    """Of a node on chain that is becoming ready, and the gates."""
    text = monitoring.GUIDE.read_text()
    source = (harness.ROOT / "src/bootstrap/goal.c").read_text()
    reasons = re.findall(r'\[BOOTSTRAP_\w+\] = "([^"]+)"', source)
    assert len(reasons) > 8
    gates = re.findall(r'^ +X\(\w+, "(\w+)"\)',
                       (harness.ROOT / "src/service/readiness.h").read_text(), re.M)
    assert len(gates) >= 8
    missing = [r for r in reasons if f"| {r} |" not in text]
    missing += [g for g in gates if f"| `{g}` |" not in text]
    assert not missing


def test_codes_exist():
    """The label that a node shows only once it was counted."""
    text = (harness.ROOT / "src/base/status.h").read_text()
    names = set(re.findall(r"\bX\(STATUS_(\w+),", text))
    assert "RESOURCE_EXHAUSTED" in names
    for expr in [*monitoring.alert_exprs().values(), *monitoring.dashboard_exprs()]:
        for _, matchers in monitoring.selectors(expr):
            for label, _, wanted in matchers:
                assert label != "code" or set(wanted.split("|")) <= names, expr
