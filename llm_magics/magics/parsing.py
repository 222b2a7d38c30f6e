"""From the text of a magic's line to its options and its prompt.

The line is split as a shell splits words, with two differences. A prompt on the line is taken as
typed, so that ``%llm What's a llama?`` needs no quotes. And ``{{...}}`` is one piece whatever is
inside, so that ``-s {{texts["short"]}}`` keeps its quotes.
"""

from __future__ import annotations

import argparse
import io
import keyword
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from ..errors import InputError, did_you_mean

_BRACES = re.compile(r"\{\{.*?\}\}+", re.DOTALL)
_OPTION = re.compile(r"-[A-Za-z]|--[A-Za-z]|--\s")
_MARK = "\ue000{}\ue001"  # private-use characters: no prompt holds them, and a shell keeps them as letters
_MARKED = re.compile("\ue000(\\d+)\ue001")


class HelpWanted(Exception):
    """``--help`` was typed."""


class Parser(argparse.ArgumentParser):
    """Options of one magic. Takes no abbreviations, and its errors are ``InputError``.

    Args:
        magic: name without ``%``.
        kind: ``line``, ``cell`` or both as ``line_cell``; how the usage line begins.
        description: what the magic does; the first line is a sentence.
        examples: cells to paste.
        prompt: what the text after the options is; empty where there are positional arguments instead.
    """

    def __init__(self, magic: str, kind: str, description: str, examples: Sequence[str], prompt: str = "") -> None:
        self.magic, self.kind, self.prompt = magic, kind, prompt
        self.examples = tuple(examples)
        super().__init__(
            prog=("%" if kind == "line" else "%%") + magic,
            description=description,
            epilog="Examples\n" + "\n\n".join(examples),
            formatter_class=_Formatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.add_argument("-h", "--help", action=_Help, help="shows this text")

    @property
    def flags(self) -> list[str]:
        """Every spelling of every option."""
        return sorted(self._option_string_actions)

    @property
    def options(self) -> list[argparse.Action]:
        """Every option, in the order in which they were added."""
        return [action for action in self._actions if action.option_strings]

    @property
    def positionals(self) -> list[argparse.Action]:
        """The arguments that are not options."""
        return [action for action in self._actions if not action.option_strings]

    def read(
        self,
        line: str,
        cell: str | None,
        fill: Callable[[str], str] = lambda part: part,
        fill_for_rows: Callable[[str], str] = lambda part: part,
    ) -> tuple[argparse.Namespace, str]:
        """Parse a magic's line.

        Args:
            line: what follows the magic's name.
            cell: the cell's body; None for a line magic.
            fill: replaces ``{{expr}}`` in an option's value, before it is converted, and in the prompt.
            fill_for_rows: does so in a prompt that is asked for every row of ``--over``.

        Returns:
            The options, and the prompt (the cell, or the rest of the line).

        Raises:
            InputError: in one line, with what to type next.
            HelpWanted: ``--help``.
        """
        words, rest = self._options_first(line) if self.prompt else (split(line), "")
        if "--no-interpolate" in words:
            fill = fill_for_rows = str
        over = any(word.partition("=")[0] == "--over" for word in words)
        fill_prompt = fill_for_rows if over else fill
        if not self.prompt:
            return self.parse_words(words, fill), "" if cell is None else fill(cell)
        if cell is None:
            return self.parse_words(words, fill), fill_prompt(rest)
        if rest:
            first = rest.split()[0]
            if first == "help":
                raise HelpWanted
            raise InputError(
                f"{self.prog} does not know {first!r} on its first line",
                self._nearest(first) or f"The {self.prompt} goes on the lines below it",
            )
        return self.parse_words(words, fill), fill_prompt(cell)

    def parse_words(self, words: Sequence[str], fill: Callable[[str], str] = str) -> argparse.Namespace:
        """Parse words that are split already; ``fill`` as in ``read``."""
        parsed, unknown = self.parse_known_args(list(self._with_values(words, fill)))
        if unknown:
            self._unknown(unknown[0])
        return parsed

    def _with_values(self, words: Sequence[str], fill: Callable[[str], str]) -> Iterator[str]:
        """Each option in one piece with its value, so that ``--stop "---"`` is not read as an option."""
        rest = iter(words)
        for word in rest:
            action = self._option_string_actions.get(word)
            value = next(rest, None) if action is not None and action.nargs is None else None
            if action is None or value is None or value in self._option_string_actions:
                yield fill(word)
                if value is not None:
                    yield value
                continue
            name = action.option_strings[-1]
            yield f"{name}={fill(value)}" if name.startswith("--") else name + fill(value)

    def error(self, message: str) -> NoReturn:
        """Turn argparse's message into an ``InputError``."""
        message = re.sub(r"^argument (?:\S+/)?(\S+): ", r"\1 ", message)
        if bare := re.match(r"(\S+) expected one argument", message):
            raise InputError(f"{self.prog}: {bare[1]} has no value", self._wanted(bare[1]))
        message, takes, hint = message.rpartition(" It takes") if " It takes" in message else (message, "", "")
        raise InputError(
            f"{self.prog}: {message.rstrip('.')}",
            f"It takes{hint}" if takes else f"{self.prog} --help shows its options",
        )

    def _wanted(self, name: str) -> str:
        """What an option takes, in the words with which its type refuses an empty text."""
        action = self._option_string_actions[name]
        convert: Any = action.type or str
        try:
            convert("")
        except argparse.ArgumentTypeError as error:
            _, takes, wanted = str(error).rpartition("It takes")
            if takes:
                return takes + wanted
        return f"Type {name} {action.metavar or 'VALUE'}"

    def _unknown(self, word: str) -> NoReturn:
        flag = word.split("=")[0]
        if not flag.startswith("-"):
            raise InputError(f"{self.prog} takes no {word!r}", f"{self.prog} --help shows what it takes")
        raise InputError(
            f"{self.prog} has no option {flag}",
            self._nearest(flag)
            or f"{self.prog} --help shows its options"
            + (f"; -- goes before a {self.prompt} that begins with a dash" if self.prompt else ""),
        )

    def _nearest(self, word: str) -> str:
        """The option that was meant; compared without dashes, which would make all of them alike."""
        near = did_you_mean(word.lstrip("-"), [name[2:] for name in self.flags if name.startswith("--")])
        return near.replace("mean ", "mean --")

    def _options_first(self, line: str) -> tuple[list[str], str]:
        """The words of the options at the beginning, and the rest of the line as typed."""
        marked, pieces = _mark(line)
        words: list[str] = []
        lexer, stream = _lexer(marked)
        while True:
            rest = marked[stream.tell() :].lstrip()
            if not _OPTION.match(rest):
                break
            word = _next_word(lexer, line)
            if word == "--":  # what follows is the prompt, whatever it holds
                return [_unmark(word, pieces) for word in words], _unmark(marked[stream.tell() :].strip(), pieces)
            words.append(word)
            if self._takes_a_value(word) and rest[len(word) :].strip():
                words.append(_next_word(lexer, line))
        text, more = self._quoted(_unmark(rest.strip(), pieces))
        if not more:
            self._refuse_options_at_the_end(text)
        return [*(_unmark(word, pieces) for word in words), *more], text

    def _takes_a_value(self, word: str) -> bool:
        """Whether the next word belongs to this option.

        Raises:
            InputError: there is no such option.
        """
        action = self._option_string_actions.get(word)
        if action is not None:
            return action.nargs is None
        if word.split("=")[0] in self._option_string_actions:
            return False
        short = self._option_string_actions.get(word[:2])
        if not word.startswith("--") and short is not None and short.nargs is None:
            return False  # -t0.7
        self._unknown(word)

    def _refuse_options_at_the_end(self, prompt: str) -> None:
        """``What is a llama? -t 0``: the model would read the option, and nobody would notice."""
        for found in re.finditer(r"(?<=\s)--?[A-Za-z][\w-]*", prompt):
            if found[0] not in self._option_string_actions:
                continue
            tail = prompt[found.start() :]
            hint = f"Options go first, their texts in quotes; -- goes before a {self.prompt} that has {found[0]} in it"
            try:
                self.parse_words(split(tail))
            except (InputError, HelpWanted):
                if not found[0].startswith("--"):  # "what does grep -o do?" is a question
                    continue
            else:
                begin = f"{self.prog[-len(self.magic) - 1 :]} {tail} {prompt[: found.start()].strip()}"
                hint = f"Type {begin}; or -- before a {self.prompt} that has it"
            raise InputError(f"{tail} stands behind the {self.prompt}", hint)

    def _quoted(self, rest: str) -> tuple[str, list[str]]:
        """A prompt in quotes loses them, and options may follow it: ``"What is RAG?" -t 0``."""
        if rest[:1] == '"' and rest.count('"') == 1:
            raise InputError('the line has an opening " without its closing "', "Close it, or leave it out")
        whole = re.fullmatch(r"(?s)([\"'])((?:(?!\1).)*)\1(\s+--?[A-Za-z].*)?", rest)  # not: "yes" or "no"
        if whole is None:
            return rest, []
        return whole[2], split(whole[3] or "")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Of one width, so that the help reads the same everywhere."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=100)


class _Help(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **rest: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **rest)

    def __call__(self, *unused: object) -> None:
        raise HelpWanted


def split(line: str) -> list[str]:
    """Words as a shell splits them; a backslash is an ordinary letter, as Windows paths need it.

    Raises:
        InputError: a quote is not closed.
    """
    marked, pieces = _mark(line)
    lexer, stream = _lexer(marked)
    words: list[str] = []
    while marked[stream.tell() :].strip():
        words.append(_unmark(_next_word(lexer, line), pieces))
    return words


def _lexer(text: str) -> tuple[shlex.shlex, io.StringIO]:
    stream = io.StringIO(text)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
    return lexer, stream


def _next_word(lexer: shlex.shlex, line: str) -> str:
    try:
        return lexer.get_token() or ""
    except ValueError as error:
        raise InputError(f"a quote is not closed in: {line.strip()}", 'Close it, as in -s "Be brief."') from error


def _mark(text: str) -> tuple[str, list[str]]:
    pieces: list[str] = []

    def put(found: re.Match[str]) -> str:
        pieces.append(found[0])
        return _MARK.format(len(pieces) - 1)

    return _BRACES.sub(put, text), pieces


def _unmark(text: str, pieces: Sequence[str]) -> str:
    return _MARKED.sub(lambda found: pieces[int(found[1])], text)


# What an option's value may be. argparse shows the message of ArgumentTypeError as it stands.


def number(example: str) -> Callable[[str], float]:
    """A number; ``example`` is shown where it is none."""

    def convert(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"cannot be {text!r}. It takes a number, such as {example}") from None

    return convert


def whole_number(example: str, least: int = 0) -> Callable[[str], int]:
    """A whole number from ``least``; ``example`` is shown where it is none."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(
                f"cannot be {text!r}. It takes a whole number from {least}, such as {example}"
            )
        return value

    return convert


def one_of(*names: str, also: dict[str, str] | None = None) -> Callable[[str], str]:
    """One of several names; ``also`` maps other spellings to them."""

    def convert(text: str) -> str:
        name = (also or {}).get(text, text)
        if name not in names:
            near = did_you_mean(text, names)
            raise argparse.ArgumentTypeError(f"cannot be {text!r}. It takes {', '.join(names)}. {near}".rstrip(" ."))
        return name

    return convert


def variable(text: str) -> str:
    """A name that a Python variable can have."""
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"cannot be {text!r}. It takes a variable name, such as answer")
    return text


def comma_list(text: str) -> tuple[str, ...]:
    """Several values with commas between them."""
    values = tuple(value.strip() for value in text.split(",") if value.strip())
    if not values:
        raise argparse.ArgumentTypeError(f"cannot be {text!r}. It takes values with commas, such as yes,no")
    return values


def numbers(example: str) -> Callable[[str], tuple[float, ...]]:
    """Several numbers with commas between them; ``example`` is shown where one is none."""

    def convert(text: str) -> tuple[float, ...]:
        try:
            return tuple(float(value) for value in comma_list(text))
        except (ValueError, argparse.ArgumentTypeError):
            raise argparse.ArgumentTypeError(f"cannot be {text!r}. It takes numbers, such as {example}") from None

    return convert


def escaped(text: str) -> str:
    r"""A text in which ``\n`` and ``\t`` are a line break and a tab."""
    return text.replace("\\n", "\n").replace("\\t", "\t")
