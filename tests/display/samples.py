"""One answer of each kind, and the style sheet as it is written."""

from __future__ import annotations

from pathlib import Path

import llm_magics.display
from llm_magics.values.answers import Answer, Vote
from llm_magics.values.knowledge import Passage

STYLE = Path(llm_magics.display.__file__).with_name("style.css").read_text(encoding="utf-8")

CODE = """# Title

Text

> quoted

| a | b |
|---|---|
| 1 | 2 |

```python
def f(x):  # why
    return None or "x" + 1
```"""

SOURCES = (
    Passage(
        "The weights are computed with a softmax.\n\nA second line.",
        "guide.md",
        0,
        55,
        "Install",
        0.83,
        matches=((32, 39),),
    ),
    Passage("exp never overflows", "/home/me/notes/numerics.md", 5, 24, "lines 3-9", 0.705),
)

ANSWERS = {
    "plain": Answer("A llama is an animal.", model="m"),
    "cut": Answer("A llama is an", model="m", stop_reason="length"),
    "rich": Answer(CODE, model="m"),
    "votes": Answer("18", reasoning="3 * 6\n\n- so", method="cot", model="m", votes=(Vote("18", 4),), chains=5),
    "unfinished": Answer("", reasoning="on and on", method="cot", model="m", parsed=False),
    "choices": Answer("a", method="fewshot", model="m", probabilities={"a": 0.7, "b": 0.3}),
    "json": Answer("{}", model="m", output_format="json", data={"a": [1, None, "x"]}),
    "code": Answer("x = 1", model="m", output_format="code", data="x = 1"),
    "text": Answer("x = 1", model="m", output_format="text"),
    "sources": Answer("Yes [1], no [7].", method="rag", model="m", sources=SOURCES),
    "not asked": Answer("Not in the documents.", method="rag", output_format="text"),
}
