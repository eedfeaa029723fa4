# SPDX-License-Identifier: Apache-2.0
"""Screens in a page of the documentation, and on a terminal.

A page names a screen in a comment before a code block:

    <!-- screen healthy 80 -->
    ```
    $ holdfastctl
    ...
    ```

Screens compare as what they say, not to the byte: numbers, ids, times and units differ each time, and with them the width of
columns. HOLDFAST_SCREENS=write has the page rewritten with what is seen.
"""
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

from harness import BUILD

MARK = re.compile(r"^<!-- screen (\S+) (\d+) -->\n```\n\$ (.*)\n((?:(?!```).*\n)*)```\n", re.MULTILINE)
WRITE = os.environ.get("HOLDFAST_SCREENS") == "write"
RUN_DIR = "/run/holdfast"
TOKEN = re.compile(r"\bhf1\.\S+")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FIGURE = re.compile(r"\b(?:s|pit|vol)-[0-9a-f]{17}\b|\b\d{4}-\d\d-\d\dT[\d:.]+Z\b|(?:(?:\d+\.)?\d+ ?(?:ms|[smhd]|%|(?:[KMGT]i)?B(?:/s)?)\s?)+(?![A-Za-z])|\d+(?:\.\d+)?")


class Page:
    """All screens of a page, in order."""

    def __init__(self, path):
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.shown = {(m[1], int(m[2])): (m[3], m[4]) for m in MARK.finditer(self.text)}

    def replace(self, name, columns, text):
        def put(m):
            if (m[1], int(m[2])) != (name, columns):
                return m[0]
            return "<!-- screen %s %d -->\n```\n$ %s\n%s```\n" % (name, columns, m[3], text)

        self.text = MARK.sub(put, self.text)
        self.path.write_text(self.text, encoding="utf-8")


def gist(text):
    """What a screen says: figures as #, space as one blank, no matter how wide a column was and where a line was broken."""
    text = re.sub(r"\n {4,}(?!next:)", " ", text)
    text = re.sub(r"(worst lag \S+), of \w+", r"\1, of #", text)  # of several that are well it is now this one, now that
    lines = (re.sub(r"\s+", " ", FIGURE.sub("#", line)).strip() for line in text.splitlines())
    return [line for line in lines if line]


def on_terminal(command, columns, env=None, typed=None):
    """What a shell command writes to a terminal of so many columns, and its exit code. typed: what waits there to be read; None: it
    has no input."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    settings = {"PATH": "%s:%s" % (BUILD, os.environ["PATH"]), "TERM": "xterm", "LANG": "C.UTF-8", **(env or {})}
    stdin = subprocess.DEVNULL if typed is None else slave
    if typed is not None:
        os.write(master, typed.encode())
    with subprocess.Popen(["sh", "-c", command], stdin=stdin, stdout=slave, stderr=slave, env=settings) as process:
        os.close(slave)
        text = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # all ends are closed
                break
            if not part:
                break
            text += part
    os.close(master)
    return text.decode().replace("\r\n", "\n"), process.returncode


def as_on_page(text, there, here):
    """A path here may be longer than one there, so that a table cut it."""
    text = text.replace(here, there)
    for length in range(len(here) - 1, 12, -1):
        text = text.replace(here[:length] + "~", there)
    return text


def look(path, name, columns, daemon, exit_code=0, prefix="", swap=()):
    """Run a screen's command, and see that the page has what it says, with colour and without. Returns it. swap: (as the page has
    it, as it is here): paths, addresses, secrets."""
    page = Page(path)
    command, expected = page.shown[name, columns]
    swap = [(RUN_DIR, str(daemon.run_dir)), *swap]
    for there, here in swap:
        command = command.replace(there, here)
    env = {"HOLDFAST_SOCKET": str(daemon.run_dir)}
    plain, code = on_terminal(prefix + command, columns, {**env, "NO_COLOR": "1"})
    assert code == exit_code, "%s: exit %d\n%s" % (command, code, plain)
    assert not COLOUR.search(plain)
    for there, here in swap:
        plain = as_on_page(plain, there, here)
    shown = TOKEN.sub("hf1...", plain)
    if WRITE:
        page.replace(name, columns, "".join(line.rstrip() + "\n" for line in shown.splitlines()))
    else:
        assert gist(shown) == gist(expected), "the screen %s at %d columns is now\n%s" % (name, columns, shown)
    return plain


def same_in_colour(daemon, command, columns, plain):
    coloured, _ = on_terminal(command, columns, {"HOLDFAST_SOCKET": str(daemon.run_dir)})
    assert gist(COLOUR.sub("", coloured).replace(str(daemon.run_dir), RUN_DIR)) == gist(plain), "colour changes what is said"


def fits(text, columns):
    """Commands to copy are not broken."""
    lines = [line for line in text.splitlines() if not line.startswith("  holdfastctl ")]
    assert all(len(line) <= columns for line in lines), "wider than %d columns:\n%s" % (columns, text)
