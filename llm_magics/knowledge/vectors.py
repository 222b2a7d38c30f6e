"""Vectors by number, in a FAISS index that fits their count (Douze et al. 2024, arXiv:2401.08281).

Up to 50,000 vectors every one is compared (flat). Above, an inverted file of half-precision vectors
(IVF): a graph (HNSW) answers as fast and takes minutes to build. How many lists are read for a
question is measured on the vectors themselves, so that 98 of 100 nearest are found.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingPackageError

if TYPE_CHECKING:
    from .base import Vectors

EXACT = 50_000  # vectors up to which every one is compared
RECALL = 0.98  # share of the ten nearest that must be found
_MARGIN = 0.01  # of recall, since it is measured on a sample
_SAMPLE = 200  # questions that the recall is measured with
_TRAINING = 40  # vectors for each list that the lists are made from: fewer, and faiss warns
_GROWTH = 4  # from which on lists are made anew: until then each is longer, and the same share of them is read
_LARGE = 500_000  # from which on lists stay as they are: two copies of so many vectors would be in memory
_PART = 20_000  # vectors that pass through full precision at once


class VectorIndex:
    """Vectors of length 1 under whole numbers.

    Args:
        dimension: numbers in a vector.

    Raises:
        MissingPackageError: faiss is not installed.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        faiss = _faiss()
        self._index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self._trained_on = 0

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def description(self) -> str:
        """What kind of index it is, for a person."""
        if not self._trained_on:
            return "exact"
        return f"IVF, {self._index.nprobe} of {self._index.nlist} lists read"

    def add(self, numbers: Sequence[int], vectors: Vectors) -> None:
        """Add vectors, (numbers, dimension)."""
        import numpy as np

        self._index.add_with_ids(np.ascontiguousarray(vectors, np.float32), np.asarray(numbers, np.int64))

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove the vectors under these numbers."""
        import numpy as np

        self._index.remove_ids(np.asarray(numbers, np.int64))

    def of(self, numbers: Sequence[int]) -> Vectors:
        """The vectors under these numbers, (numbers, dimension)."""
        import numpy as np

        found: Vectors = np.zeros((len(numbers), self.dimension), np.float32)
        for row, number in enumerate(numbers):
            found[row] = self._index.reconstruct(int(number))
        return found

    def search(self, question: Vectors, count: int) -> list[tuple[int, float]]:
        """The nearest numbers with their cosine, the nearest first.

        Args:
            question: (dimension,), of length 1.
            count: how many at most.
        """
        count = min(count, len(self))
        if not count:
            return []
        with _one_thread():  # a second thread costs more than a single search takes
            scores, numbers = self._index.search(question.reshape(1, -1), count)
        return [(int(n), float(s)) for n, s in zip(numbers[0], scores[0], strict=True) if n >= 0]

    def fit(self, say: Callable[[str], object] | None = None) -> None:
        """Take the kind of index that fits the count. Quick where nothing changes.

        An interrupt leaves the index as it was. Called while vectors are added, it keeps memory low: what is in
        lists takes half of what it takes before.

        Args:
            say: told in one line what takes long.
        """
        enough = self._trained_on and (len(self) < _GROWTH * self._trained_on or len(self) > _LARGE)
        if len(self) <= EXACT or enough:
            return
        if say is not None:
            say(f"sorting {len(self):,} vectors into lists")
        faiss = _faiss()
        numbers = self._numbers()
        index = self._trained(numbers)
        asked = self._questions(numbers)
        true = faiss.ResultHeap(len(asked), 10, keep_max=True)
        for first in range(0, len(numbers), _PART):
            part = numbers[first : first + _PART]
            vectors = self._index.reconstruct_batch(part)
            index.add_with_ids(vectors, part)
            scores, rows = faiss.knn(asked, vectors, 10, faiss.METRIC_INNER_PRODUCT)
            true.add_result(scores, part[rows])
        true.finalize()
        index.nprobe = _lists_to_read(index, asked, true.I)
        self._index, self._trained_on = index, len(numbers)

    def _trained(self, numbers: Any) -> Any:
        """An empty index whose lists are made from a sample of the vectors."""
        import numpy as np

        faiss = _faiss()
        lists = max(64, round(4 * math.sqrt(len(numbers))))
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(self.dimension),
            self.dimension,
            lists,
            faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT,
            False,  # the vectors themselves, not their distance from the list's centre: half precision is fine
        )
        index.cp.niter = 4  # more changes the lists little
        index.cp.max_points_per_centroid = _TRAINING
        chosen = np.random.default_rng(0).permutation(len(numbers))[: _TRAINING * lists]
        index.train(self._index.reconstruct_batch(numbers[chosen]))
        index.set_direct_map_type(faiss.DirectMap.Hashtable)  # numbers can be removed and looked up
        return index

    def _questions(self, numbers: Any) -> Any:
        """Questions to measure the recall with, made from the vectors themselves.

        A stored vector is an easier question than a person's: it is moved towards another one.
        """
        import numpy as np

        pairs = np.random.default_rng(1).choice(numbers, (2, min(_SAMPLE, len(numbers) // 2)), replace=False)
        asked = self._index.reconstruct_batch(pairs[0]) + 0.25 * self._index.reconstruct_batch(pairs[1])
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        return asked

    def _numbers(self) -> Any:
        import numpy as np

        faiss = _faiss()
        if not self._trained_on:
            return faiss.vector_to_array(self._index.id_map).copy()
        lists = self._index.invlists
        return np.concatenate(
            [
                faiss.rev_swig_ptr(lists.get_ids(i), lists.list_size(i)).copy()
                for i in range(self._index.nlist)
                if lists.list_size(i)
            ]
        )

    def write(self, path: Path) -> None:
        """Write the index as one FAISS file."""
        _faiss().write_index(self._index, str(path))

    @classmethod
    def read(cls, path: Path, dimension: int) -> VectorIndex:
        """Open what ``write`` wrote.

        Raises:
            ValueError: it is no such file, or of another dimension.
        """
        faiss = _faiss()
        found = cls(dimension)
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        inverted = isinstance(index, faiss.IndexIVFScalarQuantizer)
        if index.d != dimension or not (inverted or isinstance(index, faiss.IndexIDMap2)):
            raise ValueError(f"an index of {index.d} numbers a vector, and {dimension} are expected")
        found._index = index
        found._trained_on = int(index.ntotal) if inverted else 0
        return found

    def numbers(self) -> set[int]:
        """All numbers that there are vectors under."""
        return {int(number) for number in self._numbers()} if len(self) else set()


def _lists_to_read(index: Any, asked: Any, true: Any) -> int:
    """The fewest lists, in steps of a fifth more, at which the recall is reached."""
    import numpy as np

    read = 1
    while read < index.nlist:
        index.nprobe = read
        found = index.search(asked, 10)[1]
        hits = sum(len(np.intersect1d(a, b)) for a, b in zip(true, found, strict=True))
        if hits >= (RECALL + _MARGIN) * true.size:
            break
        read = math.ceil(1.2 * read)
    return int(min(read, index.nlist))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingPackageError(error.name or "faiss", "rag") from error
    return faiss


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    faiss = _faiss()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
