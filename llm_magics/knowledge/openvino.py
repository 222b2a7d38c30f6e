"""Sentence embedding models in OpenVINO's format, compiled for this machine's processor.

A model is converted once, from sentence-transformers, and kept in the user's cache (a graph in XML, its
weights, a tokenizer and a JSON file: nothing that is unpickled). A later session opens the copy
without importing torch. Where the processor has 16-bit floats OpenVINO computes in them.

A copy counts only if it gives the vectors that sentence-transformers gives, and is otherwise not used.
Converting through sentence-transformers' own ``backend="openvino"`` would need optimum-intel, which does
not go with the versions of transformers that this package needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import cache_folders
from ..quiet import quiet
from .batches import by_length

if TYPE_CHECKING:
    from .base import Vectors

Kind = Literal["document", "question", "text"]

ALIKE = 0.9995  # cosine that each probe must have with sentence-transformers' vector
_FORMAT = 1  # of the folder; another number is another folder
_BUDGET = 1024  # tokens in a batch, padding included: what is computed stays in the processor's cache
_STEP = 8  # lengths are padded to multiples of it: each new shape costs a tenth of a batch to prepare
_PROMPTS = {"document": ("document", "passage", "corpus"), "question": ("query",), "text": ()}
_REFUSED = "refused.json"
# What goes wrong in a conversion shows in these: padding, cutting, case, accents, line ends, emptiness.
_PROBES = (
    "",
    "a",
    "  Trailing and leading space \n",
    "MiXeD CaSe, ÀCCÉNTS, 漢字, 🦙 and\ttabs\nover two lines",
    "git rebase --onto <newbase> <upstream> [<branch>]; x = {'a': [1, 2.5e-3]}  # !!!???",
    "Retrieval gives a language model passages to read before it answers a question. " * 4,
    "The waiter ignored us, the soup was cold, and nobody came to take our order. " * 200,
)


class CompiledModel:
    """A converted model, opened.

    Args:
        folder: what ``convert`` wrote.

    Raises:
        OSError: a file is missing.
        RuntimeError: OpenVINO cannot read the graph.
        ValueError: the description or the tokenizer is damaged.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "about.json").read_text("utf-8"))
        try:
            self.dimension = int(about["dimension"])
            self._limit: int | None = about["limit"]
            self._pad = int(about["pad"])
            self._prompts: Mapping[str, str] = about["prompts"]
            precision = str(about["precision"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"about.json of {folder} is damaged") from error
        self._tokenizer, self._cutting = (_tokenizer(folder / "tokenizer.json") for _ in range(2))
        if self._limit is not None:
            self._cutting.enable_truncation(self._limit)
        # Several batches at once, each on few threads: they need not wait for one another.
        options = {"PERFORMANCE_HINT": "THROUGHPUT"} | ({"INFERENCE_PRECISION_HINT": precision} if precision else {})
        compiled = _compiled(folder / "model.xml", options)
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._requests = [compiled.create_infer_request() for _ in range(count)]

    def encode(self, texts: Sequence[str], kind: Kind, progress: Callable[[int], None] | None = None) -> Vectors:
        """Vectors of texts, float32, (texts, dimension), each of length 1; see ``Embedder.vectors``."""
        import numpy as np

        prompt = self._prompts[kind]
        tokens = [encoding.ids for encoding in self._cutting.encode_batch([prompt + text for text in texts])]
        found = np.zeros((len(texts), self.dimension), np.float32)
        done = 0
        for batch, vectors in self._computed(tokens):
            found[batch] = vectors
            done += len(batch)
            if progress is not None:
                progress(done)
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found

    def count_tokens(self, text: str) -> int:
        """Length of a text in the model's tokens, those at its edges not counted."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _computed(self, tokens: list[list[int]]) -> Iterator[tuple[list[int], Any]]:
        """Batches with their vectors, as they become ready."""
        idle = deque(self._requests)
        running: deque[tuple[Any, list[int]]] = deque()
        try:
            for batch in by_length([len(ids) for ids in tokens], _BUDGET):
                if not idle:
                    yield self._finished(running, idle)
                request = idle.popleft()
                request.start_async(self._inputs([tokens[index] for index in batch]))
                running.append((request, batch))
            while running:
                yield self._finished(running, idle)
        finally:
            for request, _ in running:  # an interrupt: nothing may be computed on when the next question comes
                request.wait()

    def _finished(self, running: deque[tuple[Any, list[int]]], idle: deque[Any]) -> tuple[list[int], Any]:
        request, batch = running[0]
        request.wait()
        vectors = request.get_output_tensor().data.copy()
        running.popleft()
        idle.append(request)
        return batch, vectors

    def _inputs(self, tokens: list[list[int]]) -> list[Any]:
        import numpy as np

        longest = max(map(len, tokens))
        width = -(-longest // _STEP) * _STEP
        if self._limit is not None:  # beyond it the model has no positions
            width = max(longest, min(width, self._limit))
        ids = np.full((len(tokens), width), self._pad, np.int64)
        mask = np.zeros((len(tokens), width), np.int64)
        for row, row_tokens in enumerate(tokens):
            ids[row, : len(row_tokens)] = row_tokens
            mask[row, : len(row_tokens)] = 1
        return [ids, mask]


def _compiled(graph: Path, options: Mapping[str, str]) -> Any:
    """A graph compiled for the processor, in a thread that ends at once.

    OpenVINO gives the thread in which it begins another stack for signal handlers, and frees that stack with its
    last model, in whichever thread that is. Had it begun in the main thread, whose handlers Python runs on that
    stack, the next interrupt would end the kernel.
    """
    openvino = _openvino()
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(lambda: openvino.Core().compile_model(graph, "CPU", dict(options))).result()


def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    text = path.read_text("utf-8")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # of no class of its own
        raise ValueError(f"{path} is damaged") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def usable() -> bool:
    """Whether to compute here at all: OpenVINO is installed, and there is no graphics processor that torch can use.

    Without importing torch, unless it is there already: only then can a card be asked, else its driver is looked for.
    """
    if find_spec("openvino") is None:
        return False
    if "torch" in sys.modules:
        return not sys.modules["torch"].accelerator.is_available()
    drivers = ("/proc/driver/nvidia/version", "/dev/kfd", r"C:\Windows\System32\nvcuda.dll")
    return not (any(map(os.path.exists, drivers)) or (sys.platform == "darwin" and os.uname().machine == "arm64"))


def cache_folder(place: Path) -> Path:
    """Where the copy of a model is kept: below ``LLM_MAGICS_CACHE``, or the system's place for caches.

    The name is made of the path, size and time of each of the model's files: new files, another copy.
    """
    digest = hashlib.sha256(f"{_FORMAT}\n{place.resolve()}".encode("utf-8", "surrogateescape"))
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        about = path.stat()
        digest.update(f"\n{path.relative_to(place)} {about.st_size} {about.st_mtime_ns}".encode("utf-8", "replace"))
    return cache_folders.cache_folder("openvino") / f"{place.name}-{digest.hexdigest()[:16]}"


def opened(folder: Path) -> CompiledModel | None:
    """The copy in this folder; None where there is none, or a damaged one, which is removed."""
    if not (folder / "about.json").is_file():
        return None
    try:
        return CompiledModel(folder)
    except (OSError, RuntimeError, ValueError):
        shutil.rmtree(folder, ignore_errors=True)
        return None


def refused(folder: Path) -> bool:
    """Whether a conversion for this folder was tried and gave other vectors."""
    return (folder / _REFUSED).is_file()


def convert(model: Any, folder: Path) -> CompiledModel | None:
    """Convert a model, keep the copy and open it.

    Args:
        model: a ``SentenceTransformer`` on the CPU.
        folder: where to, from ``cache_folder``.

    Returns:
        The copy; None where the model cannot be converted, its vectors differ or there is no room.
    """
    with contextlib.suppress(OSError), cache_folders.written_whole(folder, "converting") as unfinished:
        if not _written(model, unfinished):
            for path in unfinished.iterdir():
                path.unlink()
            (unfinished / _REFUSED).write_text("{}", "utf-8")
    return opened(folder)


def _written(model: Any, folder: Path) -> bool:
    """Write the files; whether what they compute is what the model computes."""
    openvino = _openvino()
    about = _about(model)
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if about is None or tokenizer is None:
        return False
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
    try:
        with quiet():  # the tracer's warnings too: the probes tell what it got wrong
            graph = _graph(model)
        openvino.save_model(graph, folder / "model.xml")
        for precision in ("", "f32"):
            (folder / "about.json").write_text(json.dumps(about | {"precision": precision}), "utf-8")
            if _alike(CompiledModel(folder), model):
                return True
    except OSError:
        raise
    except Exception:  # the tracer and the converter raise whatever the model's code and their own does
        return False
    return False


def _about(model: Any) -> dict[str, Any] | None:
    pad = model.tokenizer.pad_token_id
    if pad is None or model[0].__class__.__name__ != "Transformer":
        return None
    prompts: dict[str, str] = {}
    for kind, names in _PROMPTS.items():
        name = next((name for name in names if name in model.prompts), model.default_prompt_name)
        prompts[kind] = model.prompts.get(name) or ""
    return {
        "dimension": int(model.get_embedding_dimension()),
        "limit": model.max_seq_length,
        "pad": int(pad),
        "prompts": prompts,
    }


def _graph(model: Any) -> Any:
    """The whole of the model, pooling included, as one graph of two inputs."""
    import torch

    class Pipeline(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]

    example = model.preprocess(["A text to trace the model with.", "Another one, longer than the first of the two."])
    inputs = {name: example[name] for name in ("input_ids", "attention_mask")}
    model.eval()
    with torch.no_grad():
        return _openvino().convert_model(Pipeline(), example_input=inputs)


def _alike(compiled: CompiledModel, model: Any) -> bool:
    import numpy as np

    encoders = {"document": model.encode_document, "question": model.encode_query, "text": model.encode}
    for kind, encode in encoders.items():
        true = encode(list(_PROBES), normalize_embeddings=True, show_progress_bar=False)
        for texts, expected in ((_PROBES, true), (_PROBES[3:4], true[3:4])):  # many at once, and one alone
            found = compiled.encode(texts, kind)  # type: ignore[arg-type]
            if found.shape != expected.shape or not np.all((found * expected).sum(1) >= ALIKE):
                return False
    return True


def _openvino() -> Any:
    """OpenVINO without its telemetry, which tells its makers of each import and conversion over the network.

    It does without where that package cannot be imported, and None in this table says that it cannot.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
