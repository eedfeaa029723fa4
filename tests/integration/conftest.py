# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the integration tests, and the logs of a test that failed."""
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import harness  # noqa: E402


@pytest.fixture(name="rig")
def rig_fixture(request):
    """A rig of the test's own."""
    with harness.Rig(request.node.name) as rig:
        yield rig


@pytest.fixture(name="house", scope="module")
def house_fixture(request):
    """A rig with one daemon (house.served) that all tests of a file share."""
    with harness.Rig(request.node.name) as rig:
        rig.served = rig.daemon()
        yield rig


def interrupt(number, frame):
    raise KeyboardInterrupt


def pytest_configure():
    signal.signal(signal.SIGTERM, interrupt)  # a test run that is put an end to cleans up all the same


def pytest_report_header():
    return "programs: %s, SEED=%d" % (harness.BUILD, harness.SEED)


def pytest_runtest_setup(item):
    for rig in harness.rigs:
        rig.mark_logs()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        report.sections.append(("seed", "SEED=%d" % harness.SEED))
        for rig in harness.rigs:
            report.sections += [("log of %s" % name, text) for name, text in rig.log_tails()]
