"""What loading costs: at most 60 ms of CPU time more than the libraries that a notebook has loaded anyway.

Each line is a fresh Python process, measured by the processor time (user and system) of that process, which a busy
machine changes less than the clock. Variants alternate; the median of ten counts, and so does the
median of the ten differences between neighbours.
"""

import os
import statistics
import subprocess
import sys
import tempfile

ROUNDS = 10
LIMIT_MS = 60

SHELL = "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()"

# What is measured, its baseline, and the two programs.
PAIRS = [
    ("import llm_magics", "import IPython, traitlets", "import IPython, traitlets", "import llm_magics"),
    ("%load_ext llm_magics", "an IPython shell", SHELL, "shell.run_line_magic('load_ext', 'llm_magics')"),
]


# With this set, Python compiles an editable package anew each time, which nobody's notebook does.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def cpu_ms(program: str) -> float:
    """Processor time of one fresh Python process that runs the program, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([sys.executable, "-c", program], env=ENVIRONMENT | {"IPYTHONDIR": folder})
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"this program failed: {program}")
    return 1000 * (usage.ru_utime + usage.ru_stime)


def main() -> int:
    """Measure both pairs, print a table; 1 where one of them is above the limit."""
    print(f"CPU time of a fresh process, median of {ROUNDS}, in ms; at most {LIMIT_MS} may be added\n")
    print(f"{'':<24}{'without':>10}{'with':>10}{'added':>10}   baseline")
    good = True
    for what, baseline, before, after in PAIRS:
        programs = (before, f"{before}\n{after}")
        cpu_ms(programs[1])  # writes the .pyc files
        rounds = [[cpu_ms(program) for program in programs] for _ in range(ROUNDS)]
        without, with_it = (statistics.median(column) for column in zip(*rounds, strict=True))
        added = statistics.median(second - first for first, second in rounds)
        print(f"{what:<24}{without:>10.1f}{with_it:>10.1f}{added:>10.1f}   {baseline}")
        good = good and added <= LIMIT_MS
    print("\nwithin the limit" if good else "\nabove the limit")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
