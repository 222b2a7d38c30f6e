"""One answer of each kind, and the style sheet as it is written."""

from __future__ import annotations

from pathlib import Path

import llm_magics.display
from llm_magics.results import Answer, Vote

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
}
