"""Run a command and write the processor seconds of it and of all it started to a file.

``python processor_time.py FILE COMMAND...``. A trainer is nobody's child once the kernel that started it has ended,
and the time of a process is told to its parent alone; so this process takes in what others leave behind (Linux,
``PR_SET_CHILD_SUBREAPER`` of prctl(2)) and waits for all of it.
"""

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

SET_CHILD_SUBREAPER = 36

if __name__ == "__main__":
    if ctypes.CDLL(None, use_errno=True).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    code = subprocess.run(sys.argv[2:]).returncode
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(sys.argv[1]).write_text(str(used.ru_utime + used.ru_stime))
    sys.exit(code)
