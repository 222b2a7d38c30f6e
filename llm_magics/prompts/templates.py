"""Chat templates for models that come without one, and for ``--chat-template``.

Each is a Jinja template that transformers' ``apply_chat_template`` renders (its sandbox drops the
newline after a block, so every newline that counts stands in a string). A template begins with the
tokenizer's BOS token where the published format does. The text is then encoded without special
tokens, or the model would read two.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, did_you_mean

# `or ''`: tokenizers without a BOS token leave the name undefined, or set it to None.
_BOS = "{{ bos_token or '' }}"
_SYSTEM = """
{%- if messages and messages[0]['role'] == 'system' -%}
{%- set system = messages[0]['content'] -%}{%- set turns = messages[1:] -%}
{%- else -%}
{%- set system = '' -%}{%- set turns = messages -%}
{%- endif -%}
"""

# Touvron et al. 2023 (arXiv:2307.09288): <s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{user} [/INST] {answer} </s>
# and every further exchange begins with <s> again.
_LLAMA_2 = (
    _SYSTEM
    + """
{%- for message in turns -%}
{%- if message['role'] == 'assistant' -%}
{{- ' ' + message['content'] + ' ' + (eos_token or '') -}}
{%- else -%}
{{- (bos_token or '') + '[INST] ' -}}
{%- if loop.first and system -%}{{- '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' -}}{%- endif -%}
{{- message['content'] + ' [/INST]' -}}
{%- endif -%}
{%- endfor -%}
"""
)

# ChatML has no BOS token of its own: where a tokenizer has one for it, that is <|im_start|>.
_CHATML = """
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

# Tunstall et al. 2023 (arXiv:2310.16944).
_ZEPHYR = (
    _BOS
    + """
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>\\n' + message['content'] + (eos_token or '') + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}
"""
)

# Taori et al. 2023, Stanford Alpaca: the sentence in front is the system text of the format.
_ALPACA = (
    _BOS
    + _SYSTEM
    + """
{{- system or 'Below is an instruction that describes a task. '
    'Write a response that appropriately completes the request.' -}}
{{- '\\n\\n' -}}
{%- for message in turns -%}
{%- if message['role'] == 'assistant' -%}
{{- message['content'] + (eos_token or '') + '\\n\\n' -}}
{%- else -%}
{{- '### Instruction:\\n' + message['content'] + '\\n\\n### Response:\\n' -}}
{%- endif -%}
{%- endfor -%}
"""
)

# Dettmers et al. 2023 (arXiv:2305.14314), the format of openassistant-guanaco.
_GUANACO = (
    _BOS
    + _SYSTEM
    + """
{%- if system -%}{{- system + '\\n' -}}{%- endif -%}
{%- for message in turns -%}
{%- if message['role'] == 'assistant' -%}
{{- '### Assistant: ' + message['content'] + (eos_token or '') + '\\n' -}}
{%- else -%}
{{- '### Human: ' + message['content'] + '\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Assistant:' -}}{%- endif -%}
"""
)

_TEMPLATES = {
    "llama-2": _LLAMA_2,
    "chatml": _CHATML,
    "zephyr": _ZEPHYR,
    "alpaca": _ALPACA,
    "guanaco": _GUANACO,
}

STOPS = {"alpaca": ("### Instruction:",), "guanaco": ("### Human:",)}
"""Texts at which an answer ends, for the formats without an end token: a base model goes on with the next turn."""

NAMES = tuple(_TEMPLATES)
"""The templates that can be named."""


def chat_template(name_or_path: str) -> str:
    """A chat template, for a tokenizer's ``chat_template``.

    Args:
        name_or_path: one of ``NAMES``, or the path of a file that holds a Jinja chat template.

    Returns:
        The template.

    Raises:
        InputError: there is neither such a template nor such a file, or the file cannot be read.
    """
    if name_or_path in _TEMPLATES:
        return _TEMPLATES[name_or_path].strip()
    file = Path(name_or_path).expanduser()
    try:
        template = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        near = did_you_mean(name_or_path, NAMES)
        raise InputError(
            f"there is no chat template named {name_or_path}, and no such file",
            f"{near} It takes {', '.join(NAMES)} or the path of a Jinja file",
        ) from None
    except UnicodeDecodeError as exc:
        raise InputError(f"{file} is not UTF-8 text: byte {exc.start}", "Save the file as UTF-8") from exc
    except (OSError, ValueError) as exc:
        raise InputError(f"{file} cannot be read: {exc}", f"It takes {', '.join(NAMES)} or a Jinja file") from exc
    if not template.strip():
        raise InputError(f"{file} is empty", f"It takes {', '.join(NAMES)} or a Jinja file")
    return template
