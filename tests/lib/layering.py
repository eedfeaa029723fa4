#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The folder says what the code may know: fail on an include that crosses a line of docs/design.md."""
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


def layer_of(path):
    for layer in MAY_INCLUDE:  # the most particular first
        if path == layer or path.startswith(layer + "/"):
            return layer
    return None


def main():
    faults = []
    for path in sorted(ROOT.glob("*/**/*.[ch]")):
        name = str(path.relative_to(ROOT))
        layer = layer_of(name)
        if layer is None:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            m = INCLUDE.match(line)
            if not m:
                continue
            target = m.group(1)
            if not any(target.startswith(allowed + "/") for allowed in MAY_INCLUDE[layer]):
                faults.append(f"{name}:{number}: {layer} may not include {target}")
        if not path.read_text().startswith("/* SPDX-License-Identifier: Apache-2.0 */"):
            faults.append(f"{name}:1: no SPDX line")
    print("\n".join(faults) if faults else "layering: every include stays within its folder's knowledge")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
