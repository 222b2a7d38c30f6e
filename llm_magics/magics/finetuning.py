"""The magic for fine-tuning: ``%llm_finetune``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..display.formatters import mark_shown
from ..errors import InputError
from ..session import Session
from ..settings import JOBS_FOLDER
from .background import BackgroundJobs
from .declare import MagicGroup, magic
from .parsing import Parser, comma_list, number, one_of, whole_number

if TYPE_CHECKING:
    from ..values.training import RowSource, TrainingRequest, TrainingRun

_LOOKS = ("status", "stop", "list")


class FinetuneParser(Parser):
    """Takes AutoTrain's flags too, and keeps which of them became which."""

    def parse_words(self, words: Sequence[str], fill: Callable[[str], str] = str) -> argparse.Namespace:
        """Parse words that are split already; see ``Parser.read``."""
        from .autotrain_flags import translate

        translated = translate(words)
        args = super().parse_words(translated.words, fill)
        args.translated, args.is_autotrains = translated.changes, translated.is_autotrains
        flags = {word.partition("=")[0] for word in translated.words}
        args.typed = [action.dest for action in self.options if flags.intersection(action.option_strings)]
        return args


def _options(parser: Parser) -> None:
    add = parser.add_argument
    add("data", nargs="?", default="", metavar="DATA", help="file, folder, Hub data set or variable with examples")
    add("--name", default="", metavar="NAME", help="what the tuned model is called; from DATA unless given")
    add("--base", default="", metavar="MODEL", help="trained on; the model that answers unless given")
    add("--rows", type=whole_number("1000", 1), default=0, metavar="N", help="only the first N rows")
    add("--prompt-column", default="", metavar="COLUMN", help="column with the questions")
    add("--completion-column", default="", metavar="COLUMN", help="column with the answers")
    add("--text-column", default="", metavar="COLUMN", help="column with whole texts; text unless given")
    add(
        "--valid-split", type=number("0.1"), default=0.0, metavar="SHARE", help="held out: a share, or a number of rows"
    )
    mix = "against forgetting: general (held to its base on everyday texts; the default), none, or rows to train along"
    add("--mix", default="", metavar="WAY|FILE", help=mix)
    _add_training(parser)
    add = parser.add_argument_group("the job").add_argument
    add("--dry-run", action="store_true", help="shows what was understood of the data; trains nothing")
    add("--background", action="store_true", help="goes on while other cells run")
    add("--resume", action="store_true", help="goes on from the last checkpoint, or follows a job that runs")
    add("--status", action="store_true", help="shows how a job stands")
    add("--stop", action="store_true", help="ends a job; it saves a checkpoint and the adapter")
    add("--list", action="store_true", help="lists the jobs of this folder")


def _add_training(parser: Parser) -> None:
    add = parser.add_argument_group("training").add_argument
    add("--trainer", type=one_of("sft", "dpo", "orpo"), default="sft", metavar="WAY", help="sft; dpo or orpo for pairs")
    add("--epochs", type=number("3"), metavar="N", help="how often every row is seen; 4, 3 or 1 unless given")
    add(
        "--lr",
        dest="learning_rate",
        type=number("2e-4"),
        metavar="RATE",
        help="learning rate; from the base's size unless given",
    )
    add("--batch-size", type=whole_number("4", 1), metavar="N", help="rows that are read at once; 4 unless given")
    add("--gradient-accumulation", type=whole_number("4", 1), default=1, metavar="N", help="batches that make a step")
    add("--lora-r", type=whole_number("16", 1), default=16, metavar="R", help="rank of the adapter; 16 unless given")
    add("--lora-alpha", type=whole_number("32", 1), metavar="A", help="its weight; twice the rank unless given")
    add("--lora-dropout", type=number("0.05"), default=0.0, metavar="P", help="share of its inputs left out")
    add("--target-modules", type=comma_list, default=("all-linear",), metavar="A,B", help="layers that get an adapter")
    quantization = one_of("nf4", "int8", "none")
    add("-q", "--quantization", type=quantization, default="none", metavar="WAY", help="of the base: nf4, int8 or none")
    add(
        "--max-length",
        type=whole_number("1024", 8),
        metavar="N",
        help="longest row in tokens; longer ones are left out",
    )
    add("--packing", action="store_true", help="joins rows to blocks of --max-length")
    add("--seed", type=whole_number("42"), default=42, metavar="N", help="same seed, same adapter; 42 unless given")
    add("--merge-adapter", action="store_true", help="writes a whole model with the adapter merged in too")
    add("--backend", type=one_of("trl", "autotrain"), default="trl", metavar="NAME", help="trl or autotrain")
    add("--processes", type=whole_number("2", 1), default=1, metavar="N", help="processes a machine, one a GPU")
    add("--nodes", type=whole_number("2", 1), default=1, metavar="N", help="machines")
    add("--trust-remote-code", action="store_true", help="lets Python code that comes with the base run")


class FinetuningMagics(MagicGroup):
    """Fine-tuning."""

    def __init__(self, shell: Any, session: Session) -> None:
        super().__init__(shell, session)
        self._background = BackgroundJobs(shell)

    def open(self) -> None:
        """Say which jobs run in this folder."""
        if not Path(JOBS_FOLDER).is_dir():  # most often so: nothing is imported to find none
            return
        running = [run for run in self.session.jobs.runs() if run.state == "running"]
        for run in running:
            self._background.expect(self.session.jobs.find(run.name))
        if running:
            jobs = ", ".join(run.name + (f" (step {run.step} of {run.total})" if run.total else "") for run in running)
            name = running[0].name if len(running) == 1 else "NAME"
            print(f"Being trained here: {jobs}. %llm_finetune {name} --resume follows it, --stop ends it")

    def close(self) -> None:
        """Tell nothing more of the jobs in the background."""
        self._background.close()

    @magic(
        "llm_finetune",
        "line",
        parser=FinetuneParser,
        options=_options,
        examples=[
            "%llm_finetune facts.csv --name my-tuned",
            "%llm_finetune --train --project_name Llama-Chat --model meta-llama/Llama-2-7b-hf --data_path . "
            "--use_peft --use_int4 --learning_rate 2e-4 --num_train_epochs 1 --trainer sft --merge_adapter",
        ],
    )
    def llm_finetune(self, args: argparse.Namespace) -> TrainingRun | None:
        """Tune a model on examples of your own (LoRA); it is then a model of its own name. Alone, show the jobs."""
        from ..display.tuning import show_tried

        if any(getattr(args, look) for look in _LOOKS) or not (args.data or args.resume):
            return self._look(args)
        job = self._job(args)
        run = None if job is None else self._followed(args, job)
        if run is None:
            return None
        mark_shown(self.shell, run, above="the job above")
        info = self.session.attach(run)
        self._say(args, f"{info.name} is open beside {run.base}: %%llm -m {info.name} asks it")
        show_tried(self.session, run, shell=self.shell, silent=args.silent)
        return run

    def _followed(self, args: argparse.Namespace, job: Any) -> TrainingRun | None:
        """What a job came to, once it has; None where it goes on in the background."""
        from ..display.tuning import show_training

        with _not_left_alone(job):
            self._tell(args, job)
            if args.background:
                return None
            with self.session.room_for(job):
                run = show_training(job, shell=self.shell, cell=self.cell, silent=args.silent)
        self._background.forget(job.folder)
        return run

    def _job(self, args: argparse.Namespace) -> Any:
        """The job, started or found; None for ``--dry-run``."""
        if args.resume and self._names_job(args):
            typed, background = _typed(args), args.background or None
            return self.session.jobs.resume(name=args.data or args.name, typed=typed, background=background)
        decided = self._decided(args)
        if args.dry_run:
            self.session.jobs.check(decided)
            if decided.spec.request.name in self.session.jobs.names:
                self._say(args, f"{decided.spec.request.name} was trained before; it is kept aside when this begins")
            return None
        killed = None if args.resume else self.session.jobs.was_killed(decided)
        if killed is not None:
            at = f" at step {killed.step} of {killed.total}" if killed.total else ""
            self._say(args, f"{killed.name} was killed{at}, and goes on from its last checkpoint")
        goes_on = args.resume or killed is not None
        return self.session.jobs.resume(decided) if goes_on else self.session.jobs.start(decided)

    def _names_job(self, args: argparse.Namespace) -> bool:
        """Whether what stands beside ``--resume`` is a job. With ``--name``, DATA of a job's name is data."""
        there = args.data in self.shell.user_ns or os.path.exists(os.path.expanduser(args.data))
        return not args.data or (args.data in self.session.jobs.names and not (args.name and there))

    def _decided(self, args: argparse.Namespace) -> Any:
        """What the job will be, from the rows and the options; shown as far as it is not silent."""
        from ..display.output import show_bundle
        from ..display.tables import show_table
        from ..display.training import data_bundle

        if args.translated and not args.silent:
            whose = "AutoTrain's" if args.is_autotrains else "transformers'"
            show_table("%llm_finetune", (whose, "here"), args.translated, shell=self.shell)
        decided = self.session.plan_finetuning(_request(args), self._rows(args), adapt=args.is_autotrains)
        if not args.silent:
            show_bundle(data_bundle(decided.report), shell=self.shell)
        return decided

    def _tell(self, args: argparse.Namespace, job: Any) -> None:
        """What else there is to know of a job that was started or found."""
        jobs, name = self.session.jobs, job.folder.name
        others = jobs.unfinished(name) if args.resume and not (args.data or args.name) else []
        if others:
            self._say(args, f"{name} goes on; %llm_finetune {others[-1]} --resume goes on with {others[-1]}")
        if too := self._trained_too(name):
            self._say(args, f"{too}: all take longer")
        anew = sum(event.kind == "start" for event in job.run().events) == 1
        if anew and not args.resume and (earlier := jobs.opens_earlier(name)):
            self._say(args, f"{name} is trained anew, from its base; {earlier} opens the earlier one")
        if args.background:
            self._background.expect(job)
            self._say(
                args, f"{name} is trained in the background: %llm_finetune --status {name} shows it, --stop ends it"
            )
            for other in self.session.in_the_way(job):
                self._say(args, f"{other} stays open, and both may not fit in memory: %llm_unload {other} makes room")
        self._call_the_others(args, job)

    def _trained_too(self, name: str) -> str:
        """The jobs that run beside one, in words; empty where there are none."""
        others = [run.name for run in self.session.jobs.runs() if run.state == "running" and run.name != name]
        return f"{' and '.join(others)} {'is' if len(others) == 1 else 'are'} being trained too" if others else ""

    def _call_the_others(self, args: argparse.Namespace, job: Any) -> None:
        """Say what the other machines of a job have to run."""
        if job.elsewhere:
            spec = job.spec
            others = "another machine runs" if spec.request.nodes == 2 else f"{spec.request.nodes - 1} others each run"
            places = f"{job.folder} and {spec.base.folder} have to be at the same paths there, with the same packages"
            self._say(args, f"It begins when {others} the line below, within 10 minutes. {places}.\n{job.elsewhere}")

    def _rows(self, args: argparse.Namespace) -> RowSource:
        """A variable of that name, else a file, a folder or the Hub.

        Raises:
            InputError: there is neither, or the variable is a text that names no file.
        """
        from ..values.training import RowSource

        source, is_variable = self.variable_or_file(args.data, "Give a .csv, .jsonl or .parquet file, or a variable")
        if is_variable and isinstance(source, str) and not os.path.exists(os.path.expanduser(source)):
            wanted = "It takes a DataFrame, a list of pairs, dicts or conversations, or a file"
            raise InputError(f"{args.data} is a str and names no file", wanted)
        columns = (args.prompt_column, args.completion_column, args.text_column)
        return RowSource(source, args.data, args.rows, *columns)

    def _look(self, args: argparse.Namespace) -> TrainingRun | None:
        """The jobs as they stand, one of them, or the end of one."""
        from ..display.output import show_bundle
        from ..display.training import training_bundle

        jobs, name = self.session.jobs, args.data or args.name
        if not (args.stop or args.status):
            self._list(jobs.runs())
            return None
        job = jobs.running(name) if args.stop else jobs.find(name)
        if args.stop and job.running:
            self._say(args, f"{job.folder.name} ends its step and saves what it has…")
        run: TrainingRun = job.stop() if args.stop else job.run()
        show_bundle(training_bundle(run), shell=self.shell)
        if not name and run.state == "running" and (too := self._trained_too(run.name)):
            self._say(args, too)
        if run.state == "running":
            self._call_the_others(args, job)
        else:
            self._background.forget(job.folder)
        if run.adapter and run.state != "running" and run.name not in {info.name for info in self.session.models}:
            print(f"%llm_load {run.name} opens it")
        mark_shown(self.shell, run, above="the job above")
        return run

    def _list(self, runs: Sequence[TrainingRun]) -> None:
        from ..display.tables import show_table

        rows = [
            (
                run.name,
                f"failed: {run.text}"[:60] if run.state == "failed" else run.state,
                run.base,
                f"{run.trainer}, {run.backend}",
                f"{run.step} of {run.total}" if run.total else "",
                f"{run.losses[-1][1]:.3g}" if run.losses else "",
            )
            for run in reversed(runs)
        ]
        note = "%llm_load NAME opens one" if any(run.adapter for run in runs) else ""
        note = note if runs else "nothing has been tuned in this folder; %llm_finetune DATA --name my-tuned begins"
        columns = ("name", "state", "base", "trained with", "step", "loss")
        show_table("%llm_finetune", columns, rows, shell=self.shell, note=note)

    @staticmethod
    def _say(args: argparse.Namespace, line: str) -> None:
        if not args.silent:
            print(line)


@contextlib.contextmanager
def _not_left_alone(job: Any) -> Iterator[None]:
    """End the job where something else went wrong: nobody would watch it."""
    group = job.group
    try:
        yield
    except BaseException:
        if job.running and job.group == group:  # not another that took its place since
            job.ask_to_stop()
        raise


def _typed(args: argparse.Namespace) -> dict[str, object]:
    """The fields of a request that stand beside ``--resume`` and a job's name.

    Raises:
        InputError: some are for rows, which the job has.
    """
    for flag in ("rows", "prompt_column", "completion_column", "text_column"):
        if getattr(args, flag):
            shown = flag.replace("_", "-")
            raise InputError(f"--{shown} is for rows, and the job has its own", f"Leave --{shown} out, or name DATA")
    request = dataclasses.asdict(_request(args))
    return {name: value for name, value in request.items() if name in args.typed}


def _request(args: argparse.Namespace) -> TrainingRequest:
    from ..values.training import TrainingRequest

    return TrainingRequest(
        name=args.name or _name_of(args.data),
        base=args.base,
        trainer=args.trainer,
        backend=args.backend,
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        batch_size=args.batch_size,
        gradient_accumulation=args.gradient_accumulation,
        lora_r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=args.target_modules,
        quantization=args.quantization,
        max_length=args.max_length,
        packing=args.packing,
        valid_split=args.valid_split,
        seed=args.seed,
        merge_adapter=args.merge_adapter,
        mix=args.mix,
        processes=args.processes,
        nodes=args.nodes,
        background=args.background,
        trust_remote_code=args.trust_remote_code,
    )


def _name_of(data: str) -> str:
    """``facts-train-tuned`` of ``data/facts_train.jsonl``."""
    words = re.findall(r"[A-Za-z0-9]+", Path(os.path.expanduser(data)).resolve().stem)
    return "-".join([*words, "tuned"])[-50:].lstrip("-")
