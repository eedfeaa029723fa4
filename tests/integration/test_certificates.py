# SPDX-License-Identifier: Apache-2.0
"""Certificates: who has which, when they end, and new ones in time."""
import json
import re

from harness import UnixConnection, parse_time, random_bytes, ready_agent, wait_for


def certificates(daemon, role=None):
    return [c for c in daemon.items("/v1/certificates?") if role in (None, c["role"])]


def states(daemon):
    return [c["state"] for c in certificates(daemon, "AGENT")]


def expiry_metrics(daemon):
    """When server, CA and the only source's certificate expire, to the second."""
    connection = UnixConnection(daemon.run_dir / "monitor.sock", 10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {m[1]: int(float(m[2])) for m in re.finditer(r"^holdfast_(\w+)_certificate_expiry_timestamp_seconds(?:{.*?})? (\S+)$", text, re.M)}


def test_the_server_and_an_agent_get_new_certificates_when_asked_and_no_session_is_cut(rig):
    daemon = rig.daemon()
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", random_bytes(rig.random, 1 << 20))})
    session = agent.status()["connectedSince"]
    before = {c["role"]: c for c in certificates(daemon)}
    assert set(before) == {"CA", "SERVER", "AGENT"}
    assert before["AGENT"]["sourceServerID"] == agent.source and before["AGENT"]["subject"] == agent.source
    assert {c["issuerFingerprint"] for c in before.values()} == {before["CA"]["fingerprint"]}
    assert {c["state"] for c in before.values()} == {"VALID"}
    assert expiry_metrics(daemon) == {name: int(parse_time(before[role]["notAfterDateTime"]))
                                      for name, role in (("server", "SERVER"), ("ca", "CA"), ("source", "AGENT"))}
    assert 89 < before["SERVER"]["daysLeft"] < 90 < 3640 < before["CA"]["daysLeft"]

    assert before["SERVER"]["serialNumber"] not in daemon.ctl("cert", "renew", "server").stdout
    assert certificates(daemon, "SERVER")[0]["serialNumber"] != before["SERVER"]["serialNumber"]
    wait_for(lambda: daemon.events("server_certificate_renewed"), 5, "the event")

    daemon.ctl("cert", "renew", agent.source)
    wait_for(lambda: states(daemon) == ["REPLACED", "VALID"], 10, "the agent's new certificate")
    wait_for(lambda: daemon.events("certificate_renewed"), 5, "the event")
    assert agent.status()["connectedSince"] == session
    agent.restart("stop").wait_connected()  # with the new one
    assert expiry_metrics(daemon)["source"] >= int(parse_time(before["AGENT"]["notAfterDateTime"]))
    shown = daemon.ctl("cert", "list", "-H").stdout.splitlines()
    assert [line.split("\t")[0] for line in shown] == ["CA", "SERVER", "AGENT", "AGENT"]
    assert json.loads(daemon.ctl("cert", "list", "--json").stdout)["items"][0]["fingerprint"] == before["CA"]["fingerprint"]
    agent.stop()
    wait_for(lambda: not daemon.is_streaming(agent.source), 10, "the agent to be gone")
    refused = daemon.ctl("cert", "renew", agent.source, check=1)
    assert "not connected" in refused.stderr


def test_a_certificate_that_nobody_renews_is_told_of_before_it_expires_and_after(rig):
    daemon = rig.daemon(tls__certificate_lifetime="6s")
    agent = rig.agent(daemon, {"root": rig.file("disk", bytes(1 << 20))})  # never started
    wait_for(lambda: states(daemon) == ["EXPIRING"], 10, "the state")
    wait_for(lambda: daemon.events("certificate_expiring"), 10, "the warning")
    wait_for(lambda: daemon.events("certificate_expired"), 10, "the event")
    assert states(daemon) == ["EXPIRED"]
    event = daemon.events("certificate_expired")[0]
    assert event["sourceServerID"] == agent.source and "holdfastctl token create --source %s" % agent.source in event["text"]
    daemon.ctl("source", "stop", agent.source, "--yes")
    daemon.restart("stop")
    assert len(daemon.events("certificate_expired")) == 1 and len(daemon.events("certificate_expiring")) == 1
