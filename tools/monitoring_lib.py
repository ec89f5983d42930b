# SPDX-License-Identifier: Apache-2.0
"""What docs/monitoring asks of a node's metrics."""
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs/monitoring"
RULES = FOLDER / "alerts.yml"
TESTS = FOLDER / "alerts.test.yml"
DASHBOARD = FOLDER / "dashboard.json"
GUIDE = ROOT / "docs/operations.md"

SELECTOR = re.compile(r"\b(nova_kms_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def values_of(tree, key):
    """Every value under that key, at any depth."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key and isinstance(value, str):
                yield value
            else:
                yield from values_of(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from values_of(value, key)


def dashboard_exprs():
    return list(values_of(json.loads(DASHBOARD.read_text()), "expr"))


def dashboard_queries():
    """Of the variables: label_values(metric{...}, label)."""
    return list(values_of(json.loads(DASHBOARD.read_text()), "definition"))


def alert_exprs():
    """{alert: its expression}, of a file that has each expression on the lines after its alert."""
    exprs = {}
    name = None
    in_expr = False
    for line in RULES.read_text().splitlines():
        found = re.match(r"\s*- (alert|record): (\S+)$", line)
        if found:
            name = found[2] if found[1] == "alert" else None
        elif name and (found := re.match(r"\s*expr: (.*)$", line)):
            exprs[name] = "" if found[1] == ">-" else found[1]
            in_expr = found[1] == ">-"
        elif in_expr and re.match(r"\s*\w+:( |$)", line):
            in_expr = False
        elif in_expr:
            exprs[name] += " " + line.strip()
    return exprs


def selectors(expr):
    """(metric, [(label, operator, value)]) of each series that an expression names."""
    return [(name, MATCHER.findall(labels)) for name, labels in SELECTOR.findall(expr)]
