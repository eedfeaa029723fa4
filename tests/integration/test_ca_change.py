# SPDX-License-Identifier: Apache-2.0
"""Another CA, without a machine being enrolled again: both are trusted until every agent has come with a certificate of the new one."""
import hfagent
import pytest
from harness import first_difference, random_bytes, ready_agent, wait_for


def ca(daemon):
    return daemon.get("/v1/ca")


def waiting(daemon):
    return {w["sourceServerID"] for w in ca(daemon)["next"]["waiting"]}


def test_two_agents_one_of_them_away_move_to_a_new_ca(rig):
    daemon = rig.daemon(server__heartbeat_interval="200ms")
    disks = [rig.file("disk%d" % i, random_bytes(rig.random, 1 << 20)) for i in range(2)]
    here, away = [ready_agent(rig, daemon, {"root": disk}) for disk in disks]
    away.stop()
    old = ca(daemon)
    assert old["next"] is None
    assert "no next CA" in daemon.ctl("ca", "retire", "--yes", check=4).stderr
    daemon.ctl("ca", "rotate")
    assert ca(daemon)["fingerprint"] == old["fingerprint"]
    wait_for(lambda: waiting(daemon) == {away.source}, 20, "the agent that is here to move")
    assert ca(daemon)["next"]["agentsMoved"] == 1
    log = daemon.program.log.read_text()
    assert "to show a certificate of the new CA (ECONNABORTED, says the agent)" in log and "event=session_lost" not in log
    shown = daemon.ctl("ca", "show").stdout
    assert ca(daemon)["next"]["fingerprint"] in shown and away.source in shown and here.source not in shown
    refused = daemon.ctl("ca", "retire", "--yes", check=1)
    assert "1 of 2 agents" in refused.stderr and away.source in refused.stderr and "--force" in refused.stderr

    daemon.restart("kill")  # it goes on where it was
    newcomer = rig.agent(daemon, {"root": disks[0]}).start()  # under the old one, and moves at once
    wait_for(lambda: waiting(daemon) == {away.source} and ca(daemon)["next"]["agentsMoved"] == 2, 20, "the newcomer to move")
    here.restart("kill").wait_connected()
    away.start()
    wait_for(lambda: not waiting(daemon), 20, "the one that was away to move")
    new = ca(daemon)["next"]["fingerprint"]
    assert "nobody needs the old CA" in daemon.ctl("ca", "show").stderr
    unused = daemon.request("POST", "/v1/tokens", {}, admin=True)["tokenID"]
    daemon.ctl("ca", "retire", "--yes")
    states = {t["tokenID"]: t["state"] for t in daemon.items("/v1/tokens?")}
    assert states.pop(unused) == "REVOKED", "it names the old CA"
    assert set(states.values()) == {"USED"}
    assert ca(daemon)["fingerprint"] == new and ca(daemon)["next"] is None
    agents = (here, away, newcomer)
    for agent in agents:  # and they forget the old one
        wait_for(lambda: (agent.state_dir / "ca.pem").read_text() == ca(daemon)["certificate"], 20, "the old CA to be forgotten")
    daemon.restart("stop")
    for agent in agents:
        agent.restart("stop").wait_connected()
        daemon.wait_streaming(agent.source)
    daemon.point(here.source, "after")
    assert first_difference(disks[0], daemon.export(here.source, "root", "after")) is None
    assert {e["event"] for e in daemon.events()} >= {"ca_rotated", "ca_retired"}
    assert not daemon.events("staging_went_back"), "a stream was lost on the way"
    for agent in agents:
        agent.stop()


def test_an_agent_of_an_older_version_stays_with_the_old_ca_and_is_cut_off_by_force_alone(rig):
    daemon = rig.daemon(server__heartbeat_interval="200ms", tls__certificate_lifetime="10s")
    identity = hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("python"))
    agent = hfagent.Agent(identity)
    agent.open([hfagent.Volume("root", "serial:old", 4096)])
    daemon.ctl("ca", "rotate")
    agent.wait(lambda: agent.renewals, 20)  # in its time, and of the old CA
    agent.close()
    again = hfagent.Agent(identity)
    again.open([hfagent.Volume("root", "serial:old", 4096)])
    again.close()
    assert waiting(daemon) == {identity.source_id}
    daemon.ctl("ca", "retire", "--yes", check=1)
    daemon.ctl("ca", "retire", "--yes", "--force")
    late = hfagent.Agent(identity)
    with pytest.raises((OSError, hfagent.Closed)):
        late.connect()
        late.hello()
    late.cut()
