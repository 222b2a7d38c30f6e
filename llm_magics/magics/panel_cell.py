r"""From the fields of a panel to the magic cell that asks the same.

Reading the cell gives back every text as it was typed, whatever it holds: quotes, dashes at the front,
``{{``, arrows. Options that equal their defaults are left out.
"""

from __future__ import annotations

import re
import shlex

from ..display.panel_state import PanelState
from ..errors import InputError

_ARROW = re.compile(r"(?<![\\=<])=>")
_RULE = re.compile(r"(?m)^\s*-{3,}\s*$")
_FILLED = re.compile(r"(\{\{.*?\}\}+)")
_BLANK = re.compile(r"(?m)^[ \t]+$")
_LINE_ENDS = re.compile("[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")


def cell_text(state: PanelState, prefix: str = "") -> str:
    """The cell of a panel.

    Args:
        state: the panel's fields.
        prefix: what stands before the names of the magics.

    Raises:
        InputError: a text that no cell can hold: a line of ``---`` in a question with examples, one of ``;`` at its
            end, or an option that is ``--``.
    """
    body = _fewshot_body(state) if state.method == "fewshot" else state.prompt
    if body.rstrip().rpartition("\n")[2].strip() == ";":
        raise InputError("a ; on the last line would silence the cell", "Take it away, or end the prompt with more")
    body = _BLANK.sub("", body)  # IPython takes the spaces of blank lines out of every cell
    line = " ".join([f"%%{prefix}{state.method}", *_own_options(state), *_common_options(state)])
    return f"{line}\n{body}"


def _own_options(state: PanelState) -> list[str]:
    if state.method == "fewshot":
        return [
            *_option("--examples", state.examples_from),
            *_option("-k", state.k),
            *_option("--select", state.select, "all"),
            *_option("--choices", state.choices),
        ]
    if state.method == "cot":
        return [*_option("--strategy", state.strategy, "steps"), *_option("--votes", str(state.votes), "1")]
    if state.method == "rag":
        return [*_option("--kb", state.knowledge_base), *_option("-k", state.passages)]
    return ["--no-history"]  # the cell gives the panel's answer whatever was asked before it


def _common_options(state: PanelState) -> list[str]:
    options = [*_option("--model", state.model), *_option("--system", state.system)]
    if not (state.method == "fewshot" and state.choices.strip()):  # choices are weighed, and nothing is sampled
        options += _option("--temperature", "" if state.temperature is None else f"{state.temperature:g}")
        options += _option("--max-new-tokens", "" if state.max_new_tokens is None else str(state.max_new_tokens))
        options += _option("--seed", state.seed)
    return [*options, "--no-interpolate"] if state.as_typed and state.has_braces else options


def _option(flag: str, value: str, default: str = "") -> list[str]:
    """An option with its value, or nothing where that is empty or the default."""
    value = _LINE_ENDS.sub(" ", value)
    if not value.strip() or value == default:
        return []
    if value == "--":  # argparse drops it wherever it stands
        raise InputError(f"{flag} cannot be --", "Type another text")
    # With = where the value looks like an option itself.
    return [f"{flag}={_quoted(value)}" if value.startswith("-") and len(flag) > 2 else f"{flag} {_quoted(value)}"]


def _quoted(value: str) -> str:
    """A value as one word of a magic's line; ``{{...}}`` stays as it is, for it is one piece whatever is in it."""
    pieces = _FILLED.split(value)
    if any("{{" in piece for piece in pieces[::2]):  # not closed: it must not find an end further on in the line
        return "".join(_word(piece) for piece in re.split(r"(?<=\{)(?=\{)", value))
    return "".join(piece if place % 2 else _word(piece) for place, piece in enumerate(pieces) if piece)


def _word(text: str) -> str:
    quoted = shlex.quote(text)
    return quoted if quoted == text or '"' in text else f'"{text}"'


def _fewshot_body(state: PanelState) -> str:
    """Instruction, examples and question: with ``---`` between them only where they could be mistaken."""
    instruction, question = _as_text(state.instruction), _as_text(state.prompt)
    examples = state.examples.strip("\n") if state.examples.strip() else ""
    if not question and not examples:
        return ""  # an instruction alone would be read as the question
    lines = [line for line in examples.split("\n") if line.strip()]
    one_line_each = all(
        len(_ARROW.findall(line)) == 1 and not line.lstrip().startswith("=>") and not _RULE.match(line)
        for line in lines
    )
    first_is_instruction = bool(lines) or (instruction.count("\n") == 0 if instruction else "\n" not in question)
    if one_line_each and first_is_instruction:
        return "\n".join(part for part in (instruction, examples, question) if part)
    return "\n---\n".join([instruction, *([examples] if examples else []), question]).lstrip("\n")


def _as_text(text: str) -> str:
    """An instruction or a question, whose arrows are no example's."""
    if _RULE.search(text):
        raise InputError("a line of --- parts the blocks of a %%fewshot cell", "Type it with spaces: - - -")
    return text.strip("\n").replace("=>", r"\=>") if text.strip() else ""
