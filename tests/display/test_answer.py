"""A running answer: how it ends, whatever happens on the way."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from fakes import PROMPT, a_stream

from llm_magics.display import show_answer
from llm_magics.errors import AnswerFormatError, Interrupted, ModelError
from llm_magics.results import Answer, AnswerStream, Chunk, Usage

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

    return AnswerStream(method="llm", model="fake", format="markdown", prompt=PROMPT, chunks=chunks, finish=finish)


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


def test_where_repaints_are_rare_the_way_to_stop_is_still_told(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipywidgets import HTML

    sent: list[str] = []
    notify = HTML.notify_change
    monkeypatch.setattr(
        HTML, "notify_change", lambda widget, change: (sent.append(str(change)), notify(widget, change))
    )
    show_answer(a_stream("word " * 75, per_second=50), shell=page, updates_per_second=0.001)
    assert "To stop: interrupt the kernel" in "".join(sent)


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
    with pytest.raises(Interrupted, match=r"stopped after \d+ tokens; the partial answer is kept") as caught:
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
    last = slots(page)[1]
    assert "two words" in last["text/html"] and last["text/plain"] == "two words"


def test_an_interrupt_that_is_no_signal_counts_too(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_magics.display import answer as module

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_pump", interrupted)
    with pytest.raises(Interrupted):
        show_answer(a_stream("word " * 500, per_second=100), shell=page)
    assert set(slots(page)[1]) == {"text/html", "text/plain"}


def test_an_error_of_the_model_comes_with_its_own_traceback(page: Any) -> None:
    with pytest.raises(ValueError, match="boom") as caught:
        show_answer(a_stream("some text", error=ValueError("boom")), shell=page)
    assert any(entry.name == "chunks" for entry in caught.traceback)
    last = slots(page)[1]
    assert ">failed<" in last["text/html"] and last["text/plain"] == "some text"


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
