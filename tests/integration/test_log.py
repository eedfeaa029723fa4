# SPDX-License-Identifier: Apache-2.0
"""What the programs log: nothing secret, and no line for what happens a thousand times a second."""
from harness import MIB, patchwork, random_bytes, wait_for


def secrets_of(folder):
    """The lines of every private key below it."""
    for path in folder.rglob("*.*"):
        if path.suffix in (".key", ".pem") and b"PRIVATE KEY" in path.read_bytes():
            yield from (line for line in path.read_text().splitlines() if not line.startswith("-----"))


def test_no_token_and_no_key_is_logged_from_enrolment_to_a_renewed_certificate(rig):
    daemon = rig.daemon(tls__certificate_lifetime="6s")
    token = daemon.token()
    agent = rig.agent(daemon, {"root": rig.file("disk", patchwork(rig.random, MIB))}, enroll=False)
    agent.enroll(token=token)
    agent.start()
    daemon.wait_ready(agent.source)
    wait_for(lambda: daemon.events("certificate_renewed"), 30, "a new certificate")
    agent.stop()
    daemon.stop()
    logs = daemon.program.log.read_text() + agent.program.log.read_text()
    assert "level=debug" in logs and "event=session_welcome " in logs
    secrets = [token.split(".")[1], *secrets_of(daemon.data), *secrets_of(agent.state_dir)]
    assert len(secrets) > 6
    assert [secret for secret in secrets if secret in logs] == []


def test_frames_are_not_logged(rig):
    daemon = rig.daemon(server__log_level="info")
    disk = rig.file("disk", random_bytes(rig.random, 4 * MIB))
    agent = rig.agent(daemon, {"root": disk}).start()
    daemon.wait_ready(agent.source)
    daemon.point(agent.source, "before")
    received = daemon.source(agent.source)["counters"]["receivedBytes"]
    before = daemon.program.log.read_text().count("\n")
    for i in range(8):
        with open(disk, "r+b") as f:
            f.write(random_bytes(rig.random, 4 * MIB))
        daemon.point(agent.source, "again%d" % i)
    wait_for(lambda: daemon.source(agent.source)["counters"]["receivedBytes"] >= received + 32 * MIB, 20, "it to be counted")
    lines = daemon.program.log.read_text().splitlines()[before:]
    assert len([line for line in lines if "event=control " not in line]) <= 16, "\n".join(lines)
