"""Constrained decoding: only tokens that keep the answer within a JSON schema may be chosen.

llguidance (https://github.com/guidance-ai/llguidance) says which tokens those are. The same grammar serves both
engines, since llama.cpp as xllamacpp builds it has llguidance inside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import InputError, MissingPackageError

# A small model pads JSON with white space where it may, so none is allowed but one space after , and :. With oneOf
# an answer may fit several branches; whether it does is seen when it is validated.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": True}


def grammar(schema: str) -> str:
    """A grammar that answers after a JSON schema follow.

    Args:
        schema: the schema as JSON text.

    Returns:
        Lark text, as llguidance takes it.

    Raises:
        InputError: the schema asks for what cannot be held while an answer is written; the reason is told.
        MissingPackageError: llguidance is not installed.
    """
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise MissingPackageError("llguidance", "schema") from error
    wanted = json.loads(schema)
    whole = {**wanted, "x-guidance": _STYLE} if isinstance(wanted, dict) else wanted
    text = f"%llguidance {{}}\nstart: %json {json.dumps(whole)}"
    wrong = LLMatcher.validate_grammar(text)
    if wrong:
        reason = wrong.split("JSON schema:")[-1].split("\n   1 |")[0]
        raise InputError(
            f"no model can be held to this schema: {reason}", "Take that out of it, and check it in the answer"
        )
    return text


class Constraint:
    """The schema as a vocabulary's tokens: made once a model, since reading a vocabulary takes a second.

    Args:
        tokenizer: a fast tokenizer of transformers.
        ends: the model's end tokens.

    Raises:
        InputError: the tokenizer is written in Python alone.
        MissingPackageError: llguidance is not installed.
    """

    def __init__(self, tokenizer: Any, ends: Sequence[int]) -> None:
        if not tokenizer.is_fast:
            raise InputError("this model's tokenizer cannot hold an answer to a schema", "Leave --schema out")
        try:
            from llguidance.hf import from_tokenizer
        except ImportError as error:
            raise MissingPackageError("llguidance", "schema") from error
        self._ends = list(ends)
        self._tokens = from_tokenizer(tokenizer, eos_token=self._ends or None)

    def processor(self, schema: str, prompt_length: int) -> Any:
        """A logits processor of transformers for one call of ``generate``.

        Args:
            schema: the schema as JSON text.
            prompt_length: tokens of the prompt, padding included; answers begin after them.

        Raises:
            InputError: as ``grammar``.
        """
        from llguidance import LLMatcher
        from transformers import LogitsProcessor

        text, tokens, ends = grammar(schema), self._tokens, self._ends

        class Allowed(LogitsProcessor):
            def __init__(self) -> None:
                self.rows: list[Any] = []
                self.read = prompt_length

            def __call__(self, input_ids: Any, scores: Any) -> Any:
                self.rows = self.rows or [LLMatcher(tokens, text, log_level=0) for _ in range(len(input_ids))]
                for matcher, ids in zip(self.rows, input_ids[:, self.read :].tolist(), strict=True):
                    if ids and not matcher.is_stopped():
                        matcher.consume_tokens(ids)
                self.read = input_ids.shape[1]
                return scores.masked_fill(~_allowed(self.rows, scores, ends), float("-inf"))

        return Allowed()


def _allowed(rows: Sequence[Any], scores: Any, ends: Sequence[int]) -> Any:
    """Which tokens may follow in each row: bool, as the scores; end tokens alone where the answer is whole."""
    import numpy as np
    import torch

    allowed = torch.zeros(scores.shape, dtype=torch.bool)
    for row, matcher in enumerate(rows):
        if matcher.is_stopped():
            allowed[row, ends or slice(None)] = True
            continue
        bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
        size = min(len(bits), scores.shape[1])  # a model may have more logits than its vocabulary has tokens
        allowed[row, :size] = torch.from_numpy(bits[:size].astype(bool))
    return allowed.to(scores.device)
