# SPDX-License-Identifier: Apache-2.0
"""/metrics in both of its forms, as Prometheus reads them; holdfast-metrics(7) has every family, and no other."""
import re
import signal
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness import BUILD, MIB, ROOT, free_port, random_bytes, ready_agent, run, wait_for

PAGE = ROOT / "docs" / "man" / "holdfast-metrics.7.scd"
OPEN = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"


@pytest.fixture(name="source", scope="module")
def source_fixture(house):
    return ready_agent(house, house.served, {"root": house.file("root", random_bytes(house.random, 2 * MIB)),
                                             'da"ta\\': house.file("data", random_bytes(house.random, MIB))}).source


def scrape_from(daemon, *options):
    return run("curl", "-sSf", *options, "--unix-socket", daemon.run_dir / "monitor.sock", "http://localhost/metrics").stdout


def scrape(house, *options):
    return scrape_from(house.served, *options)


def families(text):
    """Name -> type, in the order they come."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


def samples(text):
    """'name{labels}' -> value."""
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")}


def test_promtool_finds_nothing_to_say(house, source):
    done = subprocess.run(["promtool", "check", "metrics"], input=scrape(house), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_each_commit_to_a_catalog_is_timed(house, source):
    name = "holdfast_catalog_commit_duration_seconds_count"
    before = samples(scrape(house))[name + "{}"]
    house.served.ctl("source", "tag", source, "timed=yes")
    wait_for(lambda: samples(scrape(house))[name + "{}"] > before, 10, "a commit to be counted")


def test_what_is_told_is_true(house, source):
    now = samples(scrape(house))
    assert now['holdfast_source_ready{source="%s"}' % source] == 1
    assert now['holdfast_source_state{source="%s",state="CONTINUOUS"}' % source] == 1
    assert now['holdfast_sources'] == now['holdfast_sessions'] == 1
    assert now['holdfast_tls_handshakes_total{result="ok"}'] >= 1
    assert now['holdfast_source_received_bytes_total{source="%s"}' % source] >= 3 * MIB
    assert now['holdfast_source_received_frames_total{source="%s"}' % source] > 0
    assert sorted(v for k, v in now.items() if k.startswith("holdfast_volume_replicated_bytes{")) == [MIB, 2 * MIB]
    assert sum(k.startswith("holdfast_volume_info{") and k.endswith(',name="da\\"ta\\\\"}') for k in now) == 1
    for what in ("write", "sync"):
        name = "holdfast_source_%s_duration_seconds" % what
        buckets = [v for k, v in now.items() if k.startswith(name + "_bucket{")]
        assert buckets == sorted(buckets) and buckets[-1] == now['%s_count{source="%s"}' % (name, source)] > 0
        assert now['%s_sum{source="%s"}' % (name, source)] > 0
    assert now["holdfast_ca_certificate_expiry_timestamp_seconds"] > now["holdfast_server_certificate_expiry_timestamp_seconds"] > now[
        "holdfast_start_time_seconds"]
    assert now["process_resident_memory_bytes"] > MIB and 3 < now["process_open_fds"] < now["process_max_fds"]


def test_who_was_refused_is_counted_by_reason(house, source):
    at = 'holdfast_sessions_ended_total{reason="REVOKED"}'
    agent = ready_agent(house, house.served, {"root": house.file("revoked", random_bytes(house.random, 4096))})
    before = samples(scrape(house))[at]
    house.served.ctl("source", "revoke", agent.source, "--yes")
    agent.restart()
    wait_for(lambda: samples(scrape(house))[at] > before, 20, "the refusal to be counted")
    agent.program.kill()
    house.served.ctl("source", "delete", agent.source, "--yes")


def test_a_configuration_that_is_refused_is_told(rig):
    daemon = rig.daemon()
    good = samples(scrape_from(daemon))
    assert good["holdfast_config_last_reload_successful"] == 1
    config = daemon.write_config()
    text = config.read_text()
    config.write_text(text + "nonsense = 1\n")
    daemon.program.process.send_signal(signal.SIGHUP)
    wait_for(lambda: samples(scrape_from(daemon))["holdfast_config_last_reload_successful"] == 0, 20, "the refusal")
    config.write_text(text)
    daemon.program.process.send_signal(signal.SIGHUP)
    wait_for(lambda: samples(scrape_from(daemon))["holdfast_config_last_reload_successful"] == 1, 20, "it to be taken")
    at = "holdfast_config_last_reload_success_timestamp_seconds"
    assert samples(scrape_from(daemon))[at] > good[at] > 0


def test_the_target_is_the_sources_own(house, source):
    at = 'holdfast_source_rpo_target_seconds{source="%s"}' % source
    assert samples(scrape(house))[at] == 900
    house.served.ctl("source", "set", source, "rpo-target=5m")
    wait_for(lambda: samples(scrape(house))[at] == 300, 20, "the target")


def test_openmetrics_is_given_to_who_asks_for_it(house, source):
    head = run("curl", "-sS", "-D", "-", "-o", "/dev/null", "-H", "Accept: " + OPEN, "--unix-socket",
               house.served.run_dir / "monitor.sock", "http://localhost/metrics").stdout
    assert "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8" in head
    text, plain = scrape(house, "-H", "Accept: " + OPEN), scrape(house)
    assert text.endswith("\n# EOF\n") and "# EOF" not in plain
    assert {k: v for k, v in families(plain).items() if v == "histogram"} == {k: v for k, v in families(text).items() if v == "histogram"}
    for name, kind in families(text).items():
        assert not name.endswith(("_total", "_info")), name
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        assert families(plain)[name + suffix] == ("gauge" if kind == "info" else kind)
    assert len(families(text)) == len(families(plain))
    assert set(samples(text)) == set(samples(plain))


def test_openmetrics_text_parses(house, source):
    assert len(list(text_string_to_metric_families(scrape(house, "-H", "Accept: " + OPEN)))) > 40


def test_each_family_is_one_block(house, source):
    blocks = []
    for line in scrape(house).splitlines():
        name = re.match(r"(?:# (?:HELP|TYPE) )?([a-z_]+)", line).group(1)
        name = re.sub(r"_(bucket|sum|count)$", "", name)
        if not blocks or blocks[-1] != name:
            blocks.append(name)
    assert len(blocks) == len(set(blocks)) > 40


# ---- the port ----

def fetch(port, path, *options):
    """(HTTP status, body) from TCP."""
    body, code = run("curl", "-sS", "-w", "\n%{http_code}", *options, "http://127.0.0.1:%d%s" % (port, path)).stdout.rsplit("\n", 1)
    return int(code), body


def test_a_port_tells_metrics_and_nothing_else(rig):
    port = free_port()
    daemon = rig.daemon(metrics__listen="127.0.0.1:%d" % port)
    code, body = fetch(port, "/metrics")
    assert code == 200 and families(body) == families(scrape_from(daemon))
    for path in ("/v1/version", "/v1/source-servers", "/v1/events?follow=1", "/v1/tokens", "/v1/ca"):
        assert fetch(port, path)[0] == 403
    assert fetch(port, "/v1/tokens", "-X", "POST", "-d", "{}")[0] == 403
    assert fetch(port, "/nothing")[0] == 404
    daemon.restart("stop")
    assert fetch(port, "/metrics")[0] == 200


@pytest.mark.parametrize("address", ["0.0.0.0:9877", "[::]:9877", "192.0.2.7:9877", "localhost:9877", "127.0.0.1", ":9877", "on"])
def test_a_port_that_others_can_reach_is_refused(tmp_path, address):
    path = tmp_path / "holdfastd.conf"
    path.write_text("[metrics]\nlisten = %s\n" % address)
    done = run(BUILD / "holdfastd", "-c", path, "--check-config", check=False)
    assert done.returncode == 78 and "metrics.listen" in done.stdout + done.stderr and "loopback" in done.stdout + done.stderr


# ---- its page ----

def listed():
    """Name -> type, of *name* (type) paragraphs."""
    return dict(re.findall(r"^\*([a-z_]+)\*(?:\\\{[a-z, ]+\\\})? \((\w+)\)", PAGE.read_text().replace("\\_", "_"), re.M))


def test_the_page_has_every_family_with_its_type(house, source):
    told, page = families(scrape(house)), listed()
    assert {"missing in the page": sorted(told.keys() - page.keys()), "not in the code": sorted(page.keys() - told.keys())} == {
        "missing in the page": [], "not in the code": []}
    assert {name: kind for name, kind in page.items() if told[name] != kind} == {}


def test_the_page_has_every_label(house, source):
    told = {}
    for name in samples(scrape(house)):
        family = re.sub(r"_(bucket|sum|count)$", "", name.split("{")[0])
        told.setdefault(family, set()).update(re.findall(r'[{,]([a-z_]+)="', name))
    page = {name: set(labels.replace(" ", "").split(",")) if labels else set()
            for name, labels in re.findall(r"^\*([a-z_]+)\*(?:\\\{([a-z, ]+)\\\})? \(", PAGE.read_text().replace("\\_", "_"), re.M)}
    wrong = {name: (labels, page[name]) for name, labels in told.items() if labels - {"le"} != page[name]}
    assert wrong == {}
