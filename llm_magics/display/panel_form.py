"""The fields of a panel as widgets, and what they hold as a value."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from .panel_state import METHODS, PanelState

_SELECTIONS = ("all", "first", "balanced", "similar")
_STRATEGIES = ("steps", "plan", "zero-shot")
_LONGEST = 2000  # tokens at the right end of the slider


class Offered(Protocol):
    """What the fields can be filled with."""

    @property
    def models(self) -> Sequence[str]:
        """Names of the loaded models, the one that answers last."""
        ...

    @property
    def knowledge_bases(self) -> Sequence[str]:
        """Names of the knowledge bases, the one used last at the end."""
        ...

    @property
    def default_model(self) -> str:
        """What is opened where no model is loaded."""
        ...

    def temperature(self, state: PanelState) -> float:
        """The temperature where none is chosen."""
        ...

    def max_new_tokens(self) -> int:
        """The longest answer where none is chosen."""
        ...


class Form:
    """The fields.

    Args:
        offered: what they can be filled with.
        state: what they hold at first.
        keep: notes a widget for closing, and gives it back.
        changed: called after every change by a person.

    Attributes:
        widget: all fields, to be shown.
    """

    def __init__(
        self, offered: Offered, state: PanelState, keep: Callable[[Any], Any], changed: Callable[[], None]
    ) -> None:
        self._offered = offered
        self._keep = keep
        self._changed = changed
        self._quiet = False
        self._own: dict[str, Any] = {}
        self._make(state)
        self._default = offered.temperature(state)
        self.widget = self._laid_out()
        self._fill(state)
        self.refresh()
        for field in self._fields.values():
            field.observe(self._on_change, names="value")

    @property
    def model(self) -> str:
        """The name of the model that answers."""
        return str(self._fields["model"].value)

    @property
    def state(self) -> PanelState:
        """What the fields hold."""
        values = {name: field.value for name, field in self._fields.items()}
        values["model"] = values["model"] if len(self._offered.models) > 1 else ""
        values["knowledge_base"] = (values["knowledge_base"] or "") if len(self._offered.knowledge_bases) > 1 else ""
        state = PanelState(**{**values, "temperature": None, "max_new_tokens": None})
        chosen: dict[str, Any] = {}
        temperature = round(values["temperature"], 4)  # a slider's steps add up to 0.15000000000000002
        if temperature != self._offered.temperature(state):
            chosen["temperature"] = temperature
        if values["max_new_tokens"] != self._offered.max_new_tokens():
            chosen["max_new_tokens"] = values["max_new_tokens"]
        return PanelState(**{**vars(state), **chosen})

    def refresh(self) -> None:
        """Offer the models and knowledge bases that are there now."""
        with self._without_telling():
            self._offer("model", self._offered.models or [self._offered.default_model])
            self._offer("knowledge_base", self._offered.knowledge_bases)
        self._show_what_counts()

    def _offer(self, name: str, names: Sequence[str]) -> None:
        field = self._fields[name]
        if tuple(field.options) != tuple(names):
            before = field.value
            field.options = tuple(names)
            field.value = before if before in names else (names[-1] if names else None)

    def _make(self, state: PanelState) -> None:
        import ipywidgets as W

        def text(label: str, hint: str = "") -> Any:
            return W.Text(description=label, placeholder=hint)

        def area(label: str, hint: str, rows: int) -> Any:
            return W.Textarea(description=label, placeholder=hint, rows=rows)

        methods = [(f"{name} · {said}", name) for name, said in METHODS.items()]
        longest, hottest = self._offered.max_new_tokens(), self._offered.temperature(state)
        self._fields: dict[str, Any] = {
            "method": W.Dropdown(description="Method", options=methods),
            "model": W.Dropdown(description="Model", options=()),
            "system": text("System", "a system message"),
            "instruction": area("Instruction", "Classify the text into neutral, negative or positive.", 2),
            "examples": area("Examples", "The waiter ignored us. => Negative", 4),
            "examples_from": text("From", "variable or file with examples"),
            "k": text("k", "all"),
            "select": W.Dropdown(description="Select", options=_SELECTIONS),
            "choices": text("Choices", "neutral,negative,positive"),
            "strategy": W.Dropdown(description="Strategy", options=_STRATEGIES),
            "votes": W.BoundedIntText(description="Votes", min=1, max=99, value=1),
            "knowledge_base": W.Dropdown(description="Documents", options=()),
            "passages": text("k", "passages at most"),
            "prompt": area("Prompt", "What is asked. Shift+Enter runs it.", 4),
            "temperature": W.FloatSlider(description="Temperature", max=max(2, hottest), step=0.05),
            "max_new_tokens": W.IntSlider(description="Max tokens", min=1, max=max(_LONGEST, longest)),
            "seed": text("Seed", "drawn each time"),
            "as_typed": W.Checkbox(description="leave {{…}} as typed", indent=False),
        }
        for name, field in self._fields.items():
            self._keep(field).add_class(f"llm-panel-{name.replace('_', '-')}")

    def _laid_out(self) -> Any:
        import ipywidgets as W

        def row(*names: str) -> Any:
            box = self._keep(W.HBox([self._fields[name] for name in names]))
            box.add_class("llm-panel-row")
            return box

        def rows(*boxes: Any) -> Any:
            return self._keep(W.VBox(boxes))

        self._own = {
            "fewshot": rows(row("instruction"), row("examples"), row("examples_from", "k", "select"), row("choices")),
            "cot": row("strategy", "votes"),
            "rag": row("knowledge_base", "passages"),
        }
        self._sampling = row("temperature", "max_new_tokens", "seed")
        fields = rows(
            row("method", "model"),
            row("system"),
            *self._own.values(),
            row("prompt"),
            row("as_typed"),
            self._sampling,
        )
        fields.add_class("llm-panel-fields")
        return fields

    def _fill(self, state: PanelState) -> None:
        self.refresh()
        for name, value in vars(state).items():
            field = self._fields[name]
            if name in ("model", "knowledge_base"):
                field.value = value if value in field.options else field.value
            elif value is not None:
                field.value = value
        if state.temperature is None:
            self._fields["temperature"].value = self._default
        if state.max_new_tokens is None:
            self._fields["max_new_tokens"].value = self._offered.max_new_tokens()

    def _on_change(self, change: Any) -> None:
        if self._quiet:
            return
        with self._without_telling():
            self._follow_default()
        self._show_what_counts()
        self._changed()

    def _follow_default(self) -> None:
        """A slider that nobody moved goes to the default of another method."""
        slider = self._fields["temperature"]
        default = self._offered.temperature(self.state)
        if slider.value == self._default:
            slider.value = default
        self._default = default

    def _show_what_counts(self) -> None:
        """Fields that change nothing are hidden."""
        method = self._fields["method"].value
        for name, box in self._own.items():
            box.layout.display = None if name == method else "none"
        weighed = method == "fewshot" and bool(self._fields["choices"].value.strip())
        self._sampling.layout.display = "none" if weighed else None
        state = self.state
        self._fields["as_typed"].layout.display = None if state.has_braces or state.as_typed else "none"

    @contextlib.contextmanager
    def _without_telling(self) -> Iterator[None]:
        self._quiet, before = True, self._quiet
        try:
            yield
        finally:
            self._quiet = before
