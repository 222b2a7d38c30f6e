"""A running answer: how it ends, whatever happens on the way."""

from __future__ import annotations

import gc
import re
import signal
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from fakes import PROMPT, a_stream

from llm_magics.display.answer import show_answer
from llm_magics.errors import AnswerFormatError, Interrupted, ModelError
from llm_magics.values.answers import Answer, AnswerStream, Chunk, Usage
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.knowledge import Passage

WIDGET = "application/vnd.jupyter.widget-view+json"


def press() -> None:
    """What the interrupt button does: a signal that only the main thread sees."""
    signal.raise_signal(signal.SIGINT)


def press_after(*seconds: float) -> None:
    for delay in seconds:
        timer = threading.Timer(delay, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))  # type: ignore[arg-type]
        timer.daemon = True
        timer.start()


def slots(page: Any) -> tuple[dict[str, str], dict[str, str]]:
    """What was published first and what it was replaced by."""
    first, last = page.display_pub.outputs
    assert not first["update"] and last["update"]
    assert first["transient"]["display_id"] == last["transient"]["display_id"]
    return first["data"], last["data"]


def stuck(release: threading.Event) -> AnswerStream:
    """A stream that gives two words, then does not look at its stop event."""

    def chunks(stop: threading.Event) -> Any:
        yield Chunk("two words", Usage(12, 2, 0.1, 0.2))
        release.wait(30)

    def finish(seen: list[Chunk]) -> Answer:
        return Answer("late")

    return AnswerStream(
        method="llm",
        model="fake",
        format="markdown",
        prompt=PROMPT,
        options=GenerationOptions(temperature=0.7, seed=5),
        chunks=chunks,
        finish=finish,
        sources=(Passage("What was read", "notes.md", 0, 13, number=1),),
    )


def test_the_live_card_is_replaced_in_its_slot_by_plain_html(page: Any) -> None:
    answer = show_answer(a_stream("one **two** three"), shell=page)
    first, last = slots(page)
    assert answer == "one **two** three"
    assert first["text/plain"] == "(running…)" and WIDGET in first
    assert set(last) == {"text/html", "text/plain"}
    assert "<strong>two</strong>" in last["text/html"]
    assert last["text/plain"] == answer


def test_every_widget_is_closed_at_the_end(page: Any) -> None:
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    show_answer(a_stream("word " * 900, reasoning="thought " * 500), shell=page)
    assert set(_instances) == before


def test_the_notebook_is_painted_at_most_as_often_as_asked(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_magics.display.live import NotebookView

    paints: list[float] = []
    paint = NotebookView.paint

    def counted(view: NotebookView, chunks: Any) -> None:
        paints.append(time.monotonic())
        paint(view, chunks)

    monkeypatch.setattr(NotebookView, "paint", counted)
    show_answer(a_stream("word " * 99, per_second=100), shell=page, updates_per_second=4)
    assert 3 <= len(paints) <= 7


def test_without_streaming_the_figures_and_the_way_to_stop_are_shown_and_no_text(
    page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ipywidgets import HTML

    sent: list[str] = []
    done = threading.Event()
    notify = HTML.notify_change

    def note(widget: Any, change: Any) -> None:
        if not done.is_set() and "<style>" not in str(change["new"]):
            sent.append(str(change["new"]))
        notify(widget, change)

    monkeypatch.setattr(HTML, "notify_change", note)
    stream = a_stream("word " * 75, per_second=50, at=lambda count: done.set() if count == 74 else None)
    answer = show_answer(stream, shell=page, live=False)
    assert "To stop: interrupt the kernel" in "".join(sent)
    assert "word" not in "".join(sent)
    assert re.search(r"<b>[1-9]\d</b> new tokens", "".join(sent))
    assert answer.count("word") == 75 and "word" in slots(page)[1]["text/html"]


def test_without_streaming_an_interrupt_keeps_the_partial_answer(page: Any) -> None:
    press_after(0.4)
    with pytest.raises(Interrupted) as caught:
        show_answer(a_stream("word " * 500, per_second=100), shell=page, live=False)
    assert caught.value.answer is not None and "word" in caught.value.answer
    assert ">stopped<" in slots(page)[1]["text/html"]


def test_without_streaming_a_terminal_prints_everything_at_the_end(
    terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    printed: list[str] = []
    show_answer(
        a_stream(
            "18 apples", reasoning="3 * 6", per_second=20, at=lambda count: printed.append(capsys.readouterr().out)
        ),
        shell=terminal,
        live=False,
    )
    assert "".join(printed) == ""
    assert capsys.readouterr().out.startswith("3 * 6\n\n18 apples\n\n12 prompt + 5 new tokens")


def test_finished_blocks_are_sent_only_once(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipywidgets import HTML

    sent: list[int] = []
    notify = HTML.notify_change

    def counted(widget: Any, change: Any) -> None:
        if change["name"] == "value" and "<style>" not in change["new"]:
            sent.append(len(change["new"]))
        notify(widget, change)

    monkeypatch.setattr(HTML, "notify_change", counted)
    text = "A paragraph of some ten words or so, every time.\n\n" * 300
    show_answer(a_stream(text, per_second=1500), shell=page, updates_per_second=10)
    assert max(sent) < 4000 < len(text)


def test_a_click_on_stop_ends_the_cell_normally_with_the_partial_answer(page: Any) -> None:
    stream = a_stream("word " * 500, per_second=100)
    threading.Timer(0.3, stream.stop).start()
    begin = time.monotonic()
    answer = show_answer(stream, shell=page)
    assert answer.stop_reason == "stopped" and 0 < answer.usage.new_tokens < 100
    assert time.monotonic() - begin < 2
    assert ">stopped<" in slots(page)[1]["text/html"]


@pytest.mark.parametrize("silent", [False, True])
def test_an_interrupt_keeps_the_partial_answer_and_raises_one_line(page: Any, silent: bool) -> None:
    press_after(0.4)
    begin = time.monotonic()
    with pytest.raises(Interrupted, match=r"^stopped after \d+ tokens; the partial answer is in _$") as caught:
        show_answer(a_stream("word " * 500, per_second=100), shell=page, silent=silent)
    assert time.monotonic() - begin < 2
    assert caught.value.answer is not None and caught.value.answer.stop_reason == "stopped"
    if silent:
        assert page.display_pub.outputs == []
    else:
        assert ">stopped<" in slots(page)[1]["text/html"]


def test_the_interrupt_handler_of_before_is_back_afterwards(page: Any) -> None:
    before = signal.getsignal(signal.SIGINT)
    show_answer(a_stream(), shell=page)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_before_the_first_token_says_so(page: Any) -> None:
    with pytest.raises(Interrupted, match="stopped before the first token"):
        press_after(0.2)
        show_answer(a_stream("word", per_second=0.1), shell=page)


def test_a_second_interrupt_gets_out_of_a_model_that_hangs(page: Any) -> None:
    release = threading.Event()
    press_after(0.3, 0.6)
    begin = time.monotonic()
    with pytest.raises(Interrupted, match="stopped after 2 tokens") as caught:
        show_answer(stuck(release), shell=page)
    release.set()
    assert time.monotonic() - begin < 2
    assert caught.value.answer == "two words"
    assert caught.value.answer is not None and caught.value.answer.options.seed == 5
    last = slots(page)[1]
    assert "two words" in last["text/html"]
    assert last["text/plain"] == "two words\n\nSources\n[1] notes.md  0.00"
    assert [passage.source for passage in caught.value.answer.sources] == ["notes.md"]
    assert "What was read" in last["text/html"]


def test_an_interrupt_that_is_no_signal_counts_too(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_magics.display import answer as module

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Painter, "__call__", interrupted)
    with pytest.raises(Interrupted):
        show_answer(a_stream("word " * 500, per_second=100), shell=page)
    assert set(slots(page)[1]) == {"text/html", "text/plain"}


def test_an_error_of_the_model_comes_with_its_own_traceback(page: Any) -> None:
    with pytest.raises(ValueError, match="boom") as caught:
        show_answer(a_stream("some text", error=ValueError("boom")), shell=page)
    assert any(entry.name == "chunks" for entry in caught.traceback)
    last = slots(page)[1]
    assert ">failed<" in last["text/html"] and last["text/plain"] == "some text"
    assert "stopped" not in last["text/html"] and "seed <b>7</b>" in last["text/html"]


def test_an_error_in_the_reasoning_does_not_read_as_a_stop(page: Any) -> None:
    with pytest.raises(ValueError, match="boom"):
        show_answer(a_stream("", reasoning="so far", error=ValueError("boom")), shell=page)
    last = slots(page)[1]
    assert last["text/plain"] == "It failed before an answer.\nso far"
    assert "It failed before an answer." in last["text/html"] and "topped" not in last["text/html"]


def test_an_error_before_any_text_leaves_an_empty_slot(page: Any) -> None:
    with pytest.raises(ValueError, match="boom"):
        show_answer(a_stream("", error=ValueError("boom")), shell=page)
    assert slots(page)[1] == {"text/html": "", "text/plain": ""}


def test_an_answer_of_the_wrong_format_is_still_shown(page: Any) -> None:
    answer = Answer("not json", output_format="json", model="fake")
    with pytest.raises(AnswerFormatError):
        show_answer(a_stream("not json", format="json", error=AnswerFormatError("no", answer=answer)), shell=page)
    assert "not json" in slots(page)[1]["text/html"]


def test_an_error_in_one_line_holds_no_tensor(page: Any) -> None:
    class Tensor:
        pass

    held: list[weakref.ref[Tensor]] = []

    def fail(count: int) -> None:
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        try:
            raise RuntimeError("CUDA out of memory")
        except RuntimeError as error:
            raise ModelError("memory ran out") from error

    with pytest.raises(ModelError) as caught:
        show_answer(a_stream("word", at=fail), shell=page)
    gc.collect()
    assert caught.value is not None and held[0]() is None


def test_no_thread_is_left(page: Any) -> None:
    show_answer(a_stream(), shell=page)
    for thread in threading.enumerate():
        if thread.name == "llm_magics answer":
            thread.join(2)
            assert not thread.is_alive()


def test_silent_shows_nothing_and_gives_the_answer(page: Any) -> None:
    assert show_answer(a_stream("one two"), shell=page, silent=True) == "one two"
    assert page.display_pub.outputs == []


@pytest.mark.parametrize("format", ["markdown", "text", "json", "code"])
def test_every_format_is_shown_while_it_runs(page: Any, format: str) -> None:
    answer = show_answer(a_stream("line\n" * 500, format=format, reasoning="so"), shell=page)
    assert "line" in slots(page)[1]["text/html"] and answer.output_format == format


def test_a_terminal_gets_the_text_and_a_line_of_costs(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show_answer(a_stream("one \x1b[31mtwo"), shell=terminal)
    text, costs = capsys.readouterr().out.split("\n\n")
    assert text == "one [31mtwo"
    assert costs.startswith("12 prompt + 2 new tokens · ") and costs.endswith(" · seed 7\n")


def test_a_terminal_sets_the_answer_apart_from_the_reasoning(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show_answer(a_stream("18", reasoning="3 * 6", method="cot"), shell=terminal)
    assert capsys.readouterr().out.startswith("3 * 6\n\n18\n\n12 prompt + 4 new tokens")


def test_a_terminal_tells_that_there_is_no_final_answer(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show_answer(a_stream("", reasoning="on and on", method="cot", parsed=False), shell=terminal)
    assert capsys.readouterr().out.startswith("on and on\n\nNo final answer found in the reasoning.\n\n12 prompt")


def test_importing_the_display_loads_no_widgets() -> None:
    import subprocess

    code = "import sys, llm_magics.display; sys.exit('ipywidgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("cell", ["show()", "y = show()\ny", "y = show()"])
def test_an_answer_is_displayed_once(page: Any, cell: str) -> None:
    page.user_ns["show"] = lambda: show_answer(a_stream("hello"), shell=page)
    result = page.run_cell(cell, store_history=True)
    assert len(page.display_pub.outputs) == 2  # the slot and its replacement
    if cell != "y = show()":
        assert result.result == "hello" and page.user_ns["_"] == "hello"
        assert isinstance(page.user_ns["Out"][page.execution_count - 1], Answer)


def test_an_answer_is_displayed_again_in_a_later_cell(page: Any) -> None:
    page.user_ns["show"] = lambda: show_answer(a_stream("hello"), shell=page)
    page.run_cell("y = show()", store_history=True)
    page.run_cell("display(y)", store_history=True)
    assert "llm-card" in page.display_pub.outputs[-1]["data"]["text/html"]
    assert page.display_pub.outputs[-1]["data"]["text/plain"] == "hello"


def test_a_failed_cell_forgets_what_it_showed(page: Any) -> None:
    page.user_ns["show"] = lambda: show_answer(a_stream("hello"), shell=page)
    page.run_cell("y = show(); 1/0", store_history=True)
    page.run_cell("display(y)", store_history=True)
    assert "llm-card" in page.display_pub.outputs[-1]["data"]["text/html"]


def captured_by(page: Any, cell: str, **names: Any) -> list[dict[str, Any]]:
    """What ``%%capture`` collects in a cell that may call ``show``."""
    page.user_ns |= {"show": lambda **options: show_answer(a_stream("hello"), shell=page, **options), **names}
    page.run_cell(f"%%capture cap\n{cell}", store_history=True)
    return [output["data"] for output in page.user_ns["cap"]._outputs]


@pytest.mark.parametrize(
    "cell", ["show()", "y = show()", "y = show()\ny", "y = show(); display(y)", "show(live=False)"]
)
def test_a_captured_answer_is_its_card_once_and_no_widget(page: Any, cell: str) -> None:
    (data,) = captured_by(page, cell)
    assert set(data) == {"text/html", "text/plain"} and data["text/plain"] == "hello"
    assert page.display_pub.outputs == []


def test_what_is_captured_beside_an_answer_stays(page: Any) -> None:
    data = captured_by(page, "display(1)\nshow()\ndisplay(2)\n3")
    assert [one["text/plain"] for one in data] == ["1", "hello", "2", "3"]


def test_two_captured_answers_are_two_cards(page: Any) -> None:
    assert [one["text/plain"] for one in captured_by(page, "a = show()\nshow()")] == ["hello", "hello"]


def test_a_captured_answer_that_fails_is_kept(page: Any) -> None:
    def fail() -> None:
        show_answer(a_stream("some text", error=ValueError("boom")), shell=page)

    (data,) = captured_by(page, "fail()", fail=fail)
    assert ">failed<" in data["text/html"]


def test_a_timed_answer_is_displayed_once(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page.user_ns["show"] = lambda: show_answer(a_stream("hello"), shell=page)
    for cell in ("%%time\nshow()", "%%time\ny = show()\ny", "%time show()"):
        page.display_pub.outputs.clear()
        page.run_cell(cell, store_history=True)
        assert slots(page)[1]["text/plain"] == "hello"
        printed = capsys.readouterr().out
        assert "Wall time" in printed and "hello" not in printed
        assert page.user_ns["_"] == "hello"


def test_a_terminal_shows_an_answer_once_and_keeps_it(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.user_ns["show"] = lambda: show_answer(a_stream("hello there"), shell=terminal)
    terminal.run_cell("show()", store_history=True)
    printed = capsys.readouterr().out
    assert printed.count("hello there") == 1 and "Out[" not in printed and "above" not in printed
    assert terminal.user_ns["_"] == "hello there" and terminal.user_ns["Out"][1] == "hello there"
    terminal.run_cell("x = show()", store_history=True)
    printed = capsys.readouterr().out
    assert "12 prompt + 2 new tokens" in printed and "above" not in printed
    terminal.run_cell("x", store_history=True)
    assert "]: hello there" in capsys.readouterr().out
