"""FAISS indexes that hold vectors in one of three encodings, and their search by a bitmap of positions."""

from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from index.types import Ids, Vectors

Bits = NDArray[np.uint8]
Kind = Literal["exact", "scalar", "binary"]  # float32; 8 bits a dimension; 1 bit a dimension (RaBitQ)

_MAX_EXACT, _MAX_SCALAR = 50_000, 100_000  # vectors; scanning more of them takes longer than 5 ms


def kind_for(count: int) -> Kind:
    """Return the most exact encoding of which `count` vectors are scanned in 5 ms."""
    if count <= _MAX_EXACT:
        return "exact"
    return "scalar" if count <= _MAX_SCALAR else "binary"


def new_codes(kind: Kind, dimension: int, sample: Vectors) -> faiss.Index:
    """Return an empty index, trained on the sample."""
    metric = faiss.METRIC_INNER_PRODUCT
    match kind:
        case "exact":
            return faiss.IndexFlatIP(dimension)
        case "scalar":
            index = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_8bit, metric)
        case "binary":
            # A flat scan: one list, always probed. Of the fast RaBitQ indexes only this one takes selectors.
            index = faiss.IndexIVFRaBitQFastScan(faiss.IndexFlatIP(dimension), dimension, 1, metric)
            index.cp.min_points_per_centroid = 1
    index.train(np.ascontiguousarray(sample))
    return index


def search_codes(index: faiss.Index, query: Vectors, k: int, positions: Bits | None) -> tuple[Vectors, Ids]:
    """Return scores and positions of the `k` best whose bit is set (None: of all), best first."""
    selector = None if positions is None else faiss.IDSelectorBitmap(positions)
    if isinstance(index, faiss.IndexIVF):
        parameters = faiss.IVFSearchParameters(sel=selector, nprobe=1)
    else:
        parameters = faiss.SearchParameters(sel=selector)
    if not index.ntotal:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    scores, hits = index.search(query.reshape(1, -1), min(k, index.ntotal), params=parameters)
    return scores[0][hits[0] >= 0], hits[0][hits[0] >= 0]


def new_rotation(dimension: int) -> Vectors:
    """Return a random rotation, which makes all dimensions matter alike, as one bit a dimension needs.

    It is stored with the codes, so that no other machine has to draw the same one.
    """
    random = np.random.default_rng(dimension)
    rotation: Vectors = np.linalg.qr(random.standard_normal((dimension, dimension)))[0].astype(np.float32)
    return rotation


def rotate(vectors: Vectors, rotation: Vectors | None) -> Vectors:
    rotated: Vectors = vectors if rotation is None else vectors @ rotation
    return np.ascontiguousarray(rotated, np.float32)


def pack_bits(mask: NDArray[np.bool_]) -> Bits:
    """Return eight positions a byte, the lowest bit first, as FAISS reads them."""
    return np.packbits(mask, bitorder="little")
