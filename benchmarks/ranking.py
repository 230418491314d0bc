"""What ranking a gallery costs beyond the forward pass, and whether memory stays constant.

A gallery of 128 x 64 pictures, made on the fly, is embedded and ranked for some queries. Compared in the same run: the
bare compiled forward pass over the same pictures. Printed: the share of the forward pass in the whole, and the memory
of the process at the beginning and the end.

    python benchmarks/ranking.py --pictures 10000
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import keras
import tensorflow as tf

from keras_gradcam import Explainer, SelfSimilarity
from keras_gradcam.reid import rank

HEIGHT, WIDTH = 128, 64


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNetV2((HEIGHT, WIDTH, 3), alpha=0.35, include_top=False, weights=None)
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, keras.layers.UnitNormalization()(keras.layers.Dense(128)(pooled)))


def gallery(count: int) -> tf.data.Dataset:
    """Pictures that are not in memory before they are asked for."""
    identities = tf.data.Dataset.range(count)

    def entry(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        noise = tf.random.stateless_uniform((HEIGHT, WIDTH, 3), seed=tf.stack([number, 0]))
        return noise, number // 10, number % 6

    return identities.map(entry).batch(64).prefetch(2)


def megabytes() -> float:
    """Memory of the process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    model, data = network(), gallery(options.pictures)
    forward = tf.function(lambda pictures: model(pictures, training=False), reduce_retracing=True)
    explainer = Explainer(model, target=SelfSimilarity(), methods="gradcam", batch_size=64)
    queries = next(iter(data.unbatch().batch(options.queries).as_numpy_iterator()))
    first = next(iter(data))[0]
    forward(first)
    explainer.embed(first)
    before = megabytes()

    begun = time.perf_counter()
    rank(queries, data, explainer, top=5)
    ours = time.perf_counter() - begun
    after = megabytes()
    begun = time.perf_counter()
    for pictures, _, _ in data:
        forward(pictures)
    bare = time.perf_counter() - begun
    print(f"{options.pictures} pictures of {HEIGHT} x {WIDTH}, {options.queries} queries")
    print(f"rank: {ours:.1f} s; making the pictures and the bare forward pass: {bare:.1f} s; share {bare / ours:.2f}")
    print(
        f"memory: {before:.0f} MB before, {after:.0f} MB after; embeddings {options.pictures * 128 * 4 / 2**20:.0f} MB"
    )


if __name__ == "__main__":
    main()
