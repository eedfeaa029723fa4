# SPDX-License-Identifier: Apache-2.0
"""deploy/monitoring: alarms that fire when they should, and a dashboard; both ask only for metrics that there are."""
import json
import re

import pytest

from harness import ROOT, run

HERE = ROOT / "deploy" / "monitoring"
RULES = HERE / "holdfast.rules.yml"
TESTS = HERE / "holdfast.rules.test.yml"
DASHBOARD = HERE / "holdfast.dashboard.json"
ALIEN = {"up"}  # Prometheus' own


def told(house):
    """Every name a sample may have."""
    text = run("curl", "-sSf", "--unix-socket", house.served.run_dir / "monitor.sock", "http://localhost/metrics").stdout
    names = set(ALIEN)
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        names |= {name + s for s in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names


def metrics_in(expression):
    """What looks like the name of a metric: a word with our prefix, or one that selects series by a label."""
    return set(re.findall(r"\b(?:holdfast|process)_[a-z0-9_]+", expression)) | set(re.findall(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*\{", expression))


def alarms():
    """Alert -> its expression, and what else belongs to it."""
    blocks = re.split(r"^      - alert: ", RULES.read_text(), flags=re.M)[1:]
    return {block.split("\n")[0]: block for block in blocks}


def queries():
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from ((panel["title"], t["expr"]) for t in panel.get("targets", []))
    yield from ((v["name"], v["query"]["query"]) for v in dashboard["templating"]["list"] if v["type"] == "query")


def test_the_rules_are_rules():
    run("promtool", "check", "rules", RULES)


def test_the_alarms_fire_when_they_should_and_only_then():
    run("promtool", "test", "rules", TESTS)


def test_every_alarm_has_been_seen_to_fire():
    assert set(re.findall(r'alertname="(\w+)"', TESTS.read_text())) == set(alarms())
    assert len(alarms()) > 20


def test_every_alarm_says_how_bad_it_is_and_what_to_do():
    for name, block in alarms().items():
        assert re.search(r"labels: \{severity: (critical|warning)\}", block), name
        assert re.search(r"^          summary: \S", block, re.M) and re.search(r"^          description: \S", block, re.M), name


def test_the_configuration_in_the_admins_guide_is_one(tmp_path):
    text = (ROOT / "docs" / "admin.md").read_text().split("<!-- prometheus.yml -->\n```\n")[1].split("```")[0]
    path = tmp_path / "prometheus.yml"
    path.write_text(text)
    run("promtool", "check", "config", "--syntax-only", path)
    assert 'job_name: holdfast\n' in text and 'job="holdfast"' in RULES.read_text()  # as the rules want it


def test_every_alarm_asks_for_metrics_that_there_are(house):
    names = told(house)
    for name, block in alarms().items():
        expression = re.search(r"expr: (?:\|\n((?:          +.*\n)+)|(.*)\n)", block)
        asked = metrics_in(expression.group(1) or expression.group(2))
        assert asked and asked <= names, (name, asked - names)


def test_every_panel_asks_for_metrics_that_there_are(house):
    names = told(house)
    for title, expression in queries():
        asked = metrics_in(expression)
        assert asked and asked <= names, (title, asked - names)


def test_every_query_of_the_dashboard_is_one(tmp_path):
    """promtool knows the language: the queries as recording rules."""
    rules = "".join("  - record: a:b%d\n    expr: %s\n" % (i, json.dumps(q.replace("$__rate_interval", "5m")))
                    for i, (_, q) in enumerate(queries()) if not q.startswith("label_values("))
    path = tmp_path / "queries.yml"
    path.write_text("groups:\n- name: dashboard\n  rules:\n" + rules)
    run("promtool", "check", "rules", path)


def test_panels_do_not_overlap_and_have_ids_of_their_own():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    taken = [(p["gridPos"]["x"] + i, p["gridPos"]["y"] + k) for p in panels for i in range(p["gridPos"]["w"]) for k in range(p["gridPos"]["h"])]
    assert len(taken) == len(set(taken)) and max(x for x, _ in taken) < 24


# Of a dashboard's panel, at the end of an hour: the samples there are, and what it shows of them.
SHOWN = [
    ("Worst lag against its target",
     {"source_newest_consistent_timestamp_seconds": {"late": 2700, "never-a-point": 0, "stopped": 60}, "source_state": {"stopped": 1},
      "source_rpo_target_seconds": {"late": 900, "never-a-point": 900, "stopped": 900}}, {None: 1}),
    ("Since the last scrub",
     {"source_last_scrub_timestamp_seconds": {"scrubbed": 3000, "never-scrubbed": 0}, "source_info": {"scrubbed": 1, "never-scrubbed": 1}}, {"scrubbed": 600}),
    ("Certificates expire in",
     {"source_certificate_expiry_timestamp_seconds": {"good": 7200, "expired": 1800, "not-known": 0}}, {"good": 3600, "expired": -1800}),
]


@pytest.mark.parametrize("title,told_of,shown", SHOWN, ids=[title for title, _, _ in SHOWN])
def test_what_never_was_is_not_shown_as_a_figure(tmp_path, title, told_of, shown):
    """0 stands for never, or not known: no lag of half a century, and nothing expired is left out for it."""
    expression = next(q for name, q in queries() if name == title).replace("$job", "holdfast").replace("$instance", "dr")
    labels = 'job="holdfast", instance="dr"'
    series = [{"series": 'holdfast_%s{%s, source="%s"%s}' % (metric, labels, source, ', state="STOPPED"' if metric == "source_state" else ""),
               "values": "%dx60" % value} for metric, of in told_of.items() for source, value in of.items()]
    samples = [{"labels": "{}" if source is None else '{%s, source="%s"}' % (labels, source), "value": value} for source, value in shown.items()]
    test = {"tests": [{"interval": "1m", "input_series": series,
                       "promql_expr_test": [{"expr": expression, "eval_time": "1h", "exp_samples": samples}]}]}
    path = tmp_path / "test.yml"
    path.write_text(json.dumps(test))  # which is YAML, too
    run("promtool", "test", "rules", path)
