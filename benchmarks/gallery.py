"""What ranking a large gallery of embeddings costs beside the bare product of queries and gallery.

Embeddings are random, which is the worst case: right matches lie among all others, where most entries are. Compared in
the same run: the product alone, in tiles, in 32 bits. Printed: both times, their ratio, and the most memory in use.

    python benchmarks/gallery.py --pictures 1000000 --dimensions 512 --queries 1000
    python benchmarks/gallery.py --pictures 200000 --dimensions 256 --index faiss
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from keras_gradcam.reid import NearestIndex, nearest, rank


def embeddings(count: int, dimensions: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.empty((count, dimensions), np.float32)
    for start in range(0, count, 10_000):
        part = rows[start : start + 10_000]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
    return rows


def peak() -> float:
    """The most memory that the process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def compare_index(index: str, gallery: np.ndarray, identities: np.ndarray, per_identity: int) -> None:
    """Prints what share of the ten nearest an index finds, and how long it takes, beside the exact search.

    Embeddings of one identity lie around a centre, as those of a trained network do: among random ones in so many
    dimensions nothing is near.
    """
    centres = embeddings(int(identities.max()) + 1, gallery.shape[1], 3)
    gallery = gallery + 1.5 * centres[identities]
    queries = gallery[:: len(gallery) // 1000][:1000] + 0.5 * embeddings(1000, gallery.shape[1], 4)[: len(gallery)]
    found = {}
    start = time.perf_counter()
    found["exact"], _ = nearest(queries, gallery, 10)
    print(f"exact: {time.perf_counter() - start:.1f} s, at most {peak():.2f} GB")
    start = time.perf_counter()
    built = NearestIndex(gallery, kind=index)
    print(f"{index} is built in {time.perf_counter() - start:.1f} s, at most {peak():.2f} GB")
    start = time.perf_counter()
    found[index], _ = built.nearest(queries, 10)
    print(f"{index} is asked in {time.perf_counter() - start:.2f} s")
    shares = [np.isin(row, wanted).mean() for row, wanted in zip(found[index], found["exact"], strict=True)]
    print(f"{index} finds {100 * np.mean(shares):.2f} % of the ten nearest ({per_identity} pictures of an identity)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--per-identity", type=int, default=10)
    parser.add_argument("--index", choices=("faiss", "usearch"), help="what an approximate index finds, instead")
    options = parser.parse_args()
    gallery = embeddings(options.pictures, options.dimensions, 0)
    queries = embeddings(options.queries, options.dimensions, 1)
    rng = np.random.default_rng(2)
    people = max(1, options.pictures // options.per_identity)
    identities, cameras = rng.integers(0, people, options.pictures), rng.integers(0, 6, options.pictures)
    if options.index:
        compare_index(options.index, gallery, identities, per_identity=options.per_identity)
        return
    before = peak()
    start = time.perf_counter()
    for row in range(0, options.pictures, 16_384):
        queries @ gallery[row : row + 16_384].T
    bare = time.perf_counter() - start
    start = time.perf_counter()
    rank(
        (queries, rng.integers(0, people, options.queries), rng.integers(0, 6, options.queries)),
        (gallery, identities, cameras),
        progress=False,
    )
    whole = time.perf_counter() - start
    print(f"{options.queries} queries, gallery {options.pictures} x {options.dimensions}")
    print(f"bare product {bare:.1f} s, ranking {whole:.1f} s: {whole / bare:.2f} times")
    print(f"memory: {before:.2f} GB with the embeddings, at most {peak():.2f} GB")


if __name__ == "__main__":
    main()
