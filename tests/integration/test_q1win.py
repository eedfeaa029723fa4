# SPDX-License-Identifier: Apache-2.0
import datetime, time
from harness import MIB
def test_x(rig):
    daemon = rig.daemon(env={"TZ": "UTC"})
    agent = rig.agent(daemon, {"root": rig.file("disk", b"x" * MIB)})
    now = datetime.datetime.utcnow()
    if now.second > 50: time.sleep(12)
    begin = (datetime.datetime.utcnow() + datetime.timedelta(minutes=1)).strftime("%a %H:%M")
    end = (datetime.datetime.utcnow() + datetime.timedelta(minutes=30)).strftime("%H:%M")
    daemon.ctl("throttle", "set", agent.source, "50", "%s-%s 7" % (begin, end))
    print(begin, end, daemon.source(agent.source)["throttle"])
    time.sleep(70)
    print(datetime.datetime.utcnow(), daemon.source(agent.source)["throttle"])
    assert daemon.source(agent.source)["throttle"]["bandwidthThrottlingNow"] == 7
