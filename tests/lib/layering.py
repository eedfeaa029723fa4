#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The folder says what the code may know: fail on an include that crosses a line of docs/design.md. Every file says its licence."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAY_INCLUDE = {
    "proto/common": ["proto/common"],
    "proto": ["proto"],
    "storage": ["storage", "proto/common"],
    "agent": ["agent", "proto"],
    "server": ["server", "storage", "proto"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
TOP = ["Makefile", "README.md", ".clang-format", ".gitignore"]  # with the folders, all there is
FOLDERS = [".ci", "agent", "deploy", "docs", "proto", "server", "storage", "tests"]
SPDX = "SPDX-License-Identifier: Apache-2.0"
# How a comment looks, and the line it stands in; scdoc and scripts want the first for themselves.
C, HASH = ("/* %s */", 1), ("# %s", 1)
SPDX_LINE = {".c": C, ".h": C, ".proto": ("// %s", 1), ".md": ("<!-- %s -->", 1), ".scd": ("; %s", 2)}
NO_COMMENTS = {"LICENSE", "debian", "holdfast.dashboard.json", "samples", "corpus"}  # a name of the file or of a folder it is in


def layer_of(path):
    for layer in MAY_INCLUDE:  # the most particular first
        if path == layer or path.startswith(layer + "/"):
            return layer
    return None


def forbidden_includes(name, text):
    layer = layer_of(name)
    if layer is None:
        return
    for number, line in enumerate(text.splitlines(), 1):
        m = INCLUDE.match(line)
        if m and not any(m.group(1).startswith(allowed + "/") for allowed in MAY_INCLUDE[layer]):
            yield f"{name}:{number}: {layer} may not include {m.group(1)}"


def is_ours(path):
    parts = path.relative_to(ROOT).parts
    if NO_COMMENTS.intersection(parts) and path.suffix != ".py":
        return False
    return path.is_file() and path.suffix not in (".pyc", ".swp") and not any(p.startswith(".") and p != ".ci" for p in parts[:-1])


def files():
    """Those at the top, and everything in our folders: what a build leaves is elsewhere, wherever BUILD points."""
    candidates = [ROOT / name for name in TOP]
    for folder in FOLDERS:
        candidates += (ROOT / folder).rglob("*")
    return sorted(filter(is_ours, candidates))


def says_licence(path, text):
    comment, at = SPDX_LINE.get(path.suffix, HASH)
    if text.startswith(("#!", "#cloud-config\n")):
        at = 2
    return text.splitlines()[at - 1:at] == [comment % SPDX]


def main():
    faults, count = [], 0
    for path in files():
        name, text = str(path.relative_to(ROOT)), path.read_text(errors="replace")
        count += 1
        if path.suffix in (".c", ".h"):
            faults += forbidden_includes(name, text)
        if not says_licence(path, text):
            faults.append(f"{name}: no SPDX line")
    print("\n".join(faults) if faults else f"layering: every include of {count} files stays within its folder's knowledge")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
