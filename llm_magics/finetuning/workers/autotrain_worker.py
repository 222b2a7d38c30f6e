"""Trains one job with AutoTrain's command, in its own environment. Run as ``python -m`` with the job's folder.

AutoTrain saves nothing when it is stopped and cannot go on from where it was: a stopped job has no adapter.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_magics.errors import TrainingError
from llm_magics.finetuning import autotrain, folders
from llm_magics.finetuning.data import read_rows
from llm_magics.finetuning.events import EventLog
from llm_magics.finetuning.spec import TrainingSpec, read_spec
from llm_magics.finetuning.workers.ending import merge_adapter, one_line
from llm_magics.finetuning.workers.stopping import StopRequest

_WORK = "autotrain"  # in the job's folder: where its command runs


def main(folder: Path) -> int:
    """Train the job in a folder.

    Returns:
        The exit code: 0 where it came to its end or was stopped, 1 after an error, which is an event too.
    """
    events = EventLog(folder)
    try:
        spec = read_spec(folder)
        stop = StopRequest(folder)
        stop.listen()
        events.write("phase", text="preparing AutoTrain's data and base")
        command = _prepare(spec, folder)
        request = spec.request
        block = int(command[command.index("--block-size") + 1])
        a_step = block * (request.batch_size or 1) * request.gradient_accumulation
        output = autotrain.Output(request.gradient_accumulation, a_step)
        reason = _train(command, folder / _WORK, events, output, stop)
        if reason:
            events.write("stopped", text=f"{reason}; AutoTrain saves nothing before its end")
            return 0
        _take_adapter(spec, folder, output)
        events.write("end", text=merge_adapter(spec, folder, events))
    except Exception as error:
        traceback.print_exc()
        events.write("error", text=one_line(error))
        return 1
    return 0


def _prepare(spec: TrainingSpec, folder: Path) -> list[str]:
    from llm_magics.finetuning.tokens import adds_in_front, length, pieces

    work = folder / _WORK
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    tokenizer = spec.base.tokenizer(trust_remote_code=spec.request.trust_remote_code)
    rows = read_rows(folder / folders.TRAIN)
    texts = ("".join(text for text, _ in pieces(tokenizer, row)) for row in rows)
    first = adds_in_front(tokenizer)  # its trainer adds the beginning token, which a chat template has written already
    autotrain.write_csv(work / "train.csv", (text.removeprefix(first) for text in texts))
    lengths = [length(tokenizer, row) for row in rows]
    base = autotrain.convert_base(spec.base, work / "base")
    program = str(Path(os.environ[autotrain.ENVIRONMENT]) / "bin" / "autotrain")
    return [program, *autotrain.arguments(spec, sum(lengths), max(lengths), base)]


def _train(command: list[str], work: Path, events: EventLog, output: autotrain.Output, stop: StopRequest) -> str:
    """Run AutoTrain to its end. Returns why it was stopped; empty where it was not."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PATH"] = os.pathsep.join([str(Path(command[0]).parent), environment.get("PATH", "")])
    environment["ALLOW_REMOTE_CODE"] = "false"  # true where nothing is said
    # In this worker's group: whoever ends the job ends it too.
    process = subprocess.Popen(
        command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        return _follow(process, events, output, stop)
    finally:
        if process.poll() is None:
            _end(process)


def _follow(process: subprocess.Popen[bytes], events: EventLog, output: autotrain.Output, stop: StopRequest) -> str:
    begun = False
    for line in _lines(process):
        if line:  # an empty one only says that a second has passed
            print(line, flush=True)
        fields = output.read(line)
        if fields is not None:
            if not begun:
                events.write("begin", step=0, total=fields["total"])
                begun = True
            events.write("step", **fields, memory=_memory(process))
        if reason := stop.reason():
            return reason
    process.wait()
    return stop.reason()


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Its output, cut at line ends and at the carriage returns of progress bars; an empty line every second."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    rest = b""
    while True:
        piece = process.stdout.read(1 << 16)
        if piece == b"":
            break
        if piece is None:  # nothing new: a look at whether to stop is due all the same
            yield ""
            time.sleep(0.2)
            continue
        *whole, rest = re.split(rb"[\r\n]+", rest + piece)
        yield from (line.decode("utf-8", "replace") for line in whole)
    yield rest.decode("utf-8", "replace")


def _memory(process: subprocess.Popen[bytes]) -> int:
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
            total = max(total, one.memory_info().rss)
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    """AutoTrain's command leaves accelerate and the trainer running when it is ended alone."""
    import psutil

    with contextlib.suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(family, timeout=5)
        for one in left:
            one.kill()
    process.kill()
    process.wait()


def _take_adapter(spec: TrainingSpec, folder: Path, output: autotrain.Output) -> None:
    """Take the adapter over; its being there and newer than this job is the only sign that AutoTrain has trained."""
    made = folder / _WORK / spec.request.name
    if not (made / "adapter_model.safetensors").is_file():
        raise TrainingError(f"AutoTrain: {output.error or 'it ended without an adapter and without a word'}")
    unfinished = folder / f".{folders.ADAPTER}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    shutil.copyfile(made / "adapter_model.safetensors", unfinished / "adapter_model.safetensors")
    config: dict[str, Any] = json.loads((made / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = spec.base.folder
    (unfinished / "adapter_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    shutil.rmtree(folder / folders.ADAPTER, ignore_errors=True)
    unfinished.rename(folder / folders.ADAPTER)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
