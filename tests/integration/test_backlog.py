# SPDX-License-Identifier: Apache-2.0
"""The backlog: of each disk what is its own, and together what is the source's."""
import re

import hfagent

from harness import MIB, pick, random_bytes, ready_agent, run, wait_for


def backlogs(source):
    """Of the source, and of each disk by name."""
    disks = pick(source, "dataReplicationInfo.replicatedDisks")
    return source["backlogBytes"], {d["name"]: d["backloggedStorageBytes"] for d in disks}


def samples(daemon, source):
    text = run("curl", "-sSf", "--unix-socket", daemon.run_dir / "monitor.sock", "http://localhost/metrics").stdout
    return [float(v) for v in re.findall(r'^holdfast_volume_backlog_bytes\{source="%s".*\} (\S+)$' % source, text, re.MULTILINE)]


def test_the_disk_that_is_written_to_is_the_one_with_a_backlog(house):
    daemon = house.served
    root, data = (house.file(name, random_bytes(house.random, 4 * MIB)) for name in ("root", "data"))
    agent = ready_agent(house, daemon, {"root": root, "data": data})
    wait_for(lambda: daemon.source(agent.source)["backlogBytes"] == 0, 20, "no backlog")
    daemon.ctl("source", "pause", agent.source)
    with open(data, "r+b") as f:
        f.seek(MIB)
        f.write(random_bytes(house.random, 2 * MIB))
    wait_for(lambda: daemon.source(agent.source)["backlogBytes"] > 0, 20, "the agent to see the change")
    said = []

    def has_settled():
        said.append(backlogs(daemon.source(agent.source)))
        return said[-1][0] == 2 * MIB

    wait_for(has_settled, 20, "all of the change to be found")
    for total, disks in said:
        assert disks == {"root": 0, "data": total}, said
    wait_for(lambda: sorted(samples(daemon, agent.source)) == [0, 2 * MIB], 10, "the metrics to say so")
    assert re.search(r"data .*2\.0 MiB", daemon.ctl("source", "show", agent.source).stdout)
    daemon.ctl("source", "resume", agent.source)
    daemon.point(agent.source, "after")
    wait_for(lambda: backlogs(daemon.source(agent.source)) == (0, {"root": 0, "data": 0}), 20, "no backlog")
    agent.stop()


def test_an_agent_that_tells_the_sum_alone_is_believed_and_no_disk_is_named(house):
    daemon = house.served
    identity = hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), house.path("older"))
    agent = hfagent.Agent(identity)
    agent.open([hfagent.Volume(name, "serial:" + name, 4096) for name in ("root", "data")])
    source = identity.source_id
    for name in ("root", "data"):
        agent.fill(name, b"x" * 4096)
    wait_for(lambda: backlogs(daemon.source(source)) == (0, {"root": 0, "data": 0}), 20, "both to be filled")
    agent.backlog_bytes = 6000
    wait_for(lambda: backlogs(daemon.source(source)) == (6000, {"root": None, "data": None}), 20, "the sum to be told")
    wait_for(lambda: not samples(daemon, source), 10, "the metrics to say nothing of a disk")
    assert "data" in daemon.ctl("volume", "list", source).stdout
    agent.backlog_bytes = 1 << 50
    wait_for(lambda: backlogs(daemon.source(source))[0] == 8192, 20, "no more to be told than the disks have")
    agent.backlogs = {agent.volumes["data"].number: 4000}
    wait_for(lambda: backlogs(daemon.source(source)) == (4000, {"root": 0, "data": 4000}), 20, "the disk to be named")
    wait_for(lambda: sorted(samples(daemon, source)) == [0, 4000], 10, "the metrics to say so")
    agent.backlogs = {agent.volumes["data"].number: 1 << 50}
    wait_for(lambda: backlogs(daemon.source(source)) == (4096, {"root": 0, "data": 4096}), 20, "no more than the disk has")
    agent.close()
