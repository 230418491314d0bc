"""Watch a re-identification network learn to look at people, and one that learns their surroundings instead.

Little people are drawn from hat to shoe. What they wear makes them who they are; pose, light and camera change from
picture to picture. A network learns to tell whether two pictures show the same person. In the first run ("clean") every
training picture has another background. In the second ("leaky") each person was always filmed at one place, so that the
background gives them away as well.

Both are watched on the same pictures of people that neither has trained with. There too, each person has a place of
their own, as in a benchmark with the same leak: so the second network finds nearly everyone, and looks like the better
one. The maps tell that it does so by the background. In the first run attention moves onto the people; in the second
their share of it stays what it was before training. At the end both are measured on the same people at changing places
as well, where the second network is lost.

Needs no download and about a minute and a half on two CPU cores:

    python examples/inspect_reid.py
    tensorboard --logdir logs/reid --samples_per_plugin images=1000
"""

from __future__ import annotations

import argparse
import functools
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops
from PIL import Image, ImageDraw

from keras_gradcam import Explainer, GuidedGradCAMCallback, Probe, SelfSimilarity, Similarity
from keras_gradcam.drawing.pixels import Style
from keras_gradcam.metrics import mass_inside
from keras_gradcam.reid import Gallery, Ranking, pair_figure, rank, rank_figure, similarity_maps

Color = tuple[int, ...]

HEIGHT, WIDTH = 64, 32
ZOOM = 2  # people are drawn so much larger and then shrunk, for smooth edges
COLORS: list[Color] = [
    *((200, 50, 50), (225, 130, 50), (225, 200, 70), (70, 150, 70), (60, 160, 170), (60, 90, 190)),
    *((130, 80, 170), (225, 140, 180), (235, 235, 230), (45, 45, 50), (125, 85, 55), (140, 140, 145)),
]
SKINS: list[Color] = [(240, 200, 170), (205, 150, 115), (130, 85, 60)]
HAIRS: list[Color] = [(225, 200, 70), (45, 45, 50), (125, 85, 55), (140, 140, 145)]
PATTERNS = ["plain", "stripes across", "stripes along", "checks", "two blocks"]
# The first camera sees the world yellowish, the second bluish.
CASTS = np.array([[1.10, 1.00, 0.82], [0.84, 0.98, 1.12]])


# --- people ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What somebody wears, and so who they are."""

    upper: Color
    second: Color
    pattern: str
    lower: Color
    skirt: bool
    skin: Color
    hair: Color
    hat: Color | None
    bag: Color | None


class People(NamedTuple):
    """Pictures (N, H, W, 3) in 0..1, who is on them, which camera took them, and where the person is, bool (N, H, W).

    In the order of identities; of each, first the pictures of camera 0, then as many of camera 1.
    """

    pictures: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray
    masks: np.ndarray


def by_person(people: People) -> np.ndarray:
    """The positions of the pictures, (people, 2 cameras, pictures of each)."""
    return np.arange(len(people.pictures)).reshape(len(np.unique(people.identities)), 2, -1)


def make_looks(count: int, seed: int) -> list[Look]:
    rng = np.random.default_rng(seed)
    looks: dict[tuple[Color, str, Color], Look] = {}
    while len(looks) < count:
        upper, second, lower, hat, bag = (COLORS[place] for place in rng.permutation(len(COLORS))[:5])
        pattern, skin, hair = PATTERNS[rng.integers(5)], SKINS[rng.integers(3)], HAIRS[rng.integers(4)]
        skirt, hatted, bagged = rng.random(3) < (0.35, 0.35, 0.5)
        look = Look(upper, second, pattern, lower, skirt, skin, hair, hat if hatted else None, bag if bagged else None)
        looks.setdefault((upper, pattern, lower), look)
    return list(looks.values())


def at(*values: float) -> list[float]:
    """Coordinates x, y, x, y, ... of the finished picture on the canvas it is drawn on."""
    return [value * ZOOM for value in values]


@functools.cache
def cloth(look: Look) -> Image.Image:
    """The upper clothing as a picture of the whole canvas."""
    rows, columns = np.indices((HEIGHT * ZOOM, WIDTH * ZOOM))
    across, along = rows // (3 * ZOOM) % 2, columns // (3 * ZOOM) % 2
    second = {
        "plain": 0 * rows,
        "stripes across": across,
        "stripes along": along,
        "checks": across ^ along,
        "two blocks": (rows > 23 * ZOOM) * 1,
    }[look.pattern]
    return Image.fromarray(np.array([look.upper, look.second], np.uint8)[second])


def draw_person(look: Look, rng: np.random.Generator) -> Image.Image:
    """The person in a pose of the moment, on a transparent canvas."""
    person = Image.new("RGBA", (WIDTH * ZOOM, HEIGHT * ZOOM))
    draw = ImageDraw.Draw(person)
    stride, lean = rng.uniform(0.5, 4.5), 16 + rng.uniform(-1, 1)
    for side in (-1, 1):
        foot, ground = 16 + side * (2 + stride), 58 - rng.uniform(0, 2)
        hip = 16 + 2.2 * side
        leg = at(hip, 35, (hip + foot) / 2 + rng.uniform(-1, 1.5), 46, foot, ground)
        draw.line(leg, look.skin if look.skirt else look.lower, int((3 if look.skirt else 4.2) * ZOOM), joint="curve")
        draw.ellipse(at(foot - 2.2, ground - 0.6, foot + 2.8, ground + 2), fill=(40, 35, 35))
    trousers, skirt = at(11.8, 32, 20.2, 32, 20.2, 37, 11.8, 37), at(12, 32, 20, 32, 22.5, 46, 9.5, 46)
    draw.polygon(skirt if look.skirt else trousers, fill=look.lower)

    shape = Image.new("L", person.size)
    pen = ImageDraw.Draw(shape)
    shoulders = at(lean + 6, 17, lean + 3.5, 15, lean - 3.5, 15, lean - 6, 17)
    pen.polygon([*shoulders, *at(11.2, 35, 20.8, 35)], fill=255)
    hands = []
    for side in (-1, 1):
        bend, reach = rng.uniform(-1, 3), rng.uniform(0.7, 3.3)
        hand = 16 + side * (5 + reach), 32 - max(bend, 0) * rng.uniform(0, 3)
        pen.line(at(lean + 5 * side, 17.5, 16 + side * (7 + bend / 2), 25, *hand), 255, 3 * ZOOM, joint="curve")
        hands.append(hand)
    person.paste(cloth(look), (0, 0), shape)
    for x, y in hands:
        draw.ellipse(at(x - 1.6, y - 1.6, x + 1.6, y + 1.6), fill=look.skin)
    if look.bag:
        hook = 21.5 + rng.uniform(-0.5, 1)
        draw.line(at(lean - 4, 15.5, hook, 33), look.bag, int(1.3 * ZOOM))
        draw.rounded_rectangle(at(hook - 3, 30, hook + 3.5, 39), ZOOM, fill=look.bag)

    head = 16 + (lean - 16) * 1.5
    draw.rectangle(at(head - 1.5, 12, head + 1.5, 15.5), fill=look.skin)
    draw.ellipse(at(head - 4, 4, head + 4, 14), fill=look.skin)
    draw.pieslice(at(head - 4.2, 3.4, head + 4.2, 13), 170, 370, fill=look.hair)
    if look.hat:
        draw.pieslice(at(head - 4.4, 1.5, head + 4.4, 11), 180, 360, fill=look.hat)
        draw.rectangle(at(head - 5.5, 5.5, head + 5.5, 7), fill=look.hat)

    if rng.random() < 0.5:
        person = person.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale, x, y = rng.uniform(0.82, 1.03), rng.uniform(-3.5, 3.5) + WIDTH / 2, rng.uniform(-2, 2.5) + HEIGHT / 2
    corner = at(WIDTH / 2 - x / scale, HEIGHT / 2 - y / scale)
    moved = (1 / scale, 0, corner[0], 0, 1 / scale, corner[1])
    return person.transform(person.size, Image.Transform.AFFINE, moved, Image.Resampling.BILINEAR)


def draw_place(number: int, rng: np.random.Generator) -> Image.Image:
    """A cluttered background. The same number is the same place, from a slightly different angle each time."""
    fixed = np.random.default_rng(number)
    wide, high = WIDTH + 8, HEIGHT + 8

    def color() -> Color:
        shade = fixed.uniform(0.5, 1) * np.array(COLORS[fixed.integers(len(COLORS))]) + fixed.uniform(0, 25, 3)
        return tuple(shade.astype(int).tolist())

    place = Image.new("RGB", (wide * ZOOM, high * ZOOM), color())
    draw = ImageDraw.Draw(place)
    draw.rectangle(at(0, high * fixed.uniform(0.5, 0.85), wide, high), fill=color())
    for _ in range(14):
        x, y = fixed.uniform(0, (wide, high))
        kind, (dx, dy) = fixed.integers(3), fixed.uniform(2, 9, 2)
        if kind == 0:
            draw.rectangle(at(x - dx, y - dy, x + dx, y + dy), fill=color())
        elif kind == 1:
            draw.ellipse(at(x - dx / 1.5, y - dy / 1.5, x + dx / 1.5, y + dy / 1.5), fill=color())
        else:
            draw.line(at(x, y, x + 2 * dx, y + (2 * dy - 11) * 2), color(), int(fixed.uniform(1, 3) * ZOOM))
    left, top = rng.integers(0, 8 * ZOOM, 2).tolist()
    return place.crop((left, top, left + WIDTH * ZOOM, top + HEIGHT * ZOOM))


def make_people(looks: Sequence[Look], identities: Sequence[int], each: int, own_places: bool, seed: int) -> People:
    """Takes ``each`` pictures of everybody with each of the two cameras; with ``own_places``, always at one place."""
    rng = np.random.default_rng(seed)
    who, cameras = np.repeat(identities, 2 * each), np.tile(np.repeat([0, 1], each), len(identities))
    pictures, masks = np.empty((len(who), HEIGHT, WIDTH, 3)), np.empty((len(who), HEIGHT, WIDTH), bool)
    for number, (identity, camera) in enumerate(zip(who.tolist(), cameras, strict=True)):
        scene = draw_place(identity if own_places else int(rng.integers(10**6, 10**9)), rng)
        person = draw_person(looks[identity], rng)
        scene.paste(person, (0, 0), person)
        light = np.asarray(scene.resize((WIDTH, HEIGHT), Image.Resampling.BOX)) / 255
        light = (light - 0.5) * rng.uniform(0.75, 1.2) + 0.5 + rng.uniform(-0.12, 0.1)
        pictures[number] = light * CASTS[camera]
        masks[number] = np.asarray(person.getchannel("A").resize((WIDTH, HEIGHT), Image.Resampling.BOX)) > 127
    pictures += rng.normal(0, 0.03, pictures.shape)
    return People(np.clip(pictures, 0, 1).astype(np.float32), who, cameras, masks)


# --- the network ----------------------------------------------------------------------------------------------------


class SupervisedContrastive(keras.losses.Loss):
    """Pulls embeddings of one identity together and pushes the others of the batch away (Khosla et al. 2020)."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        identities = ops.reshape(y_true, (-1,))
        others = 1 - ops.eye(ops.shape(identities)[0])
        positives = others * ops.cast(identities[:, None] == identities[None], "float32")
        logits = ops.matmul(y_pred, ops.transpose(y_pred)) / 0.1  # cosines by the temperature
        logits = logits - ops.max(logits, axis=1, keepdims=True)  # PyTorch would do -= in place
        chances = logits - ops.log(ops.sum(others * ops.exp(logits), axis=1, keepdims=True))
        return -ops.sum(positives * chances, axis=1) / ops.sum(positives, axis=1)


class Batches(keras.utils.PyDataset):
    """Batches of 16 identities with 4 pictures each, drawn anew in every epoch."""

    def __init__(self, people: People, seed: int) -> None:
        super().__init__()
        self.people, self.seed, self.epoch = people, seed, 0
        self.of_each = by_person(people).reshape(len(np.unique(people.identities)), -1)

    def __len__(self) -> int:
        return len(self.people.identities) // 64

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        chosen = rng.permuted(rng.permutation(self.of_each)[:16], axis=1)[:, :4].ravel()
        return self.people.pictures[chosen], self.people.identities[chosen]

    def on_epoch_end(self) -> None:
        self.epoch += 1


def make_model(steps: int) -> keras.Model:
    model = keras.Sequential([keras.Input((HEIGHT, WIDTH, 3)), layers.Rescaling(2.0, offset=-1.0)])
    for number, filters in enumerate((16, 32, 64, 64)):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
        if number < 2:  # the last feature map is 16 x 8
            model.add(layers.MaxPooling2D())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(64, use_bias=False))
    model.add(layers.UnitNormalization())
    rate = keras.optimizers.schedules.CosineDecay(4e-3, steps)
    model.compile(keras.optimizers.Adam(rate), SupervisedContrastive())
    return model


# --- two runs -------------------------------------------------------------------------------------------------------


def query_and_gallery(people: People) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Two pictures of everybody with camera 0, and all the others, as (pictures, identities, cameras)."""
    asked = by_person(people)[:, 0, :2].T.ravel()  # first one of everybody
    others = np.setdiff1d(np.arange(len(people.pictures)), asked)
    return tuple(column[asked] for column in people[:3]), tuple(column[others] for column in people[:3])


def on_person(explainer: Explainer, people: People) -> float:
    """The share of attention on the person, averaged over all pictures."""
    return mass_inside(explainer(people.pictures), people.masks).mean


def train(
    name: str, looks: list[Look], held_out: dict[str, People], options: argparse.Namespace
) -> dict[str, tuple[Ranking, float, float]]:
    """Returns, for each kind of place, how people are found and the attention on them before and after training."""
    keras.utils.set_random_seed(options.seed)
    people = make_people(looks, range(options.identities), 6, name == "leaky", options.seed + 1)
    batches = Batches(people, options.seed)
    model = make_model(options.epochs * len(batches))
    # What shapes a picture's embedding. The gradient of a Similarity() asks for something else: what would make two
    # pictures still more alike. Once a network matches them, that is what is left over, and no longer why they match.
    target = SelfSimilarity()
    explainer = Explainer(model, target=target, methods=["gradcam"])
    before = {places: on_person(explainer, pictures) for places, pictures in held_out.items()}
    watched = held_out["own"]
    pairs = by_person(watched)[:8, :, 0]  # eight people, once with each camera
    probe = pairs.ravel()
    query, gallery = query_and_gallery(watched)
    folder = options.log_dir / name
    callback = GuidedGradCAMCallback(
        Probe((watched.pictures[probe], watched.identities[probe]), regions=watched.masks[probe]),
        folder,
        target=target,
        gallery=Gallery(gallery, query=query, every=5),
        methods=["gradcam"],
        style=Style(scale="frame"),  # each map on a scale of its own: where, not how much
    )
    matched = GuidedGradCAMCallback(  # each picture beside the other one of its person, in the tab
        (watched.pictures[probe], watched.identities[probe]),
        folder / "pairs",
        target=Similarity(),
        methods=["gradcam"],
        style=Style(scale="frame"),
        logs=(),
    )
    progress = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: print(
            f"  epoch {epoch:2d}  loss {logs['loss']:.2f}  attention on the person {logs['gradcam_mass_inside']:.0%}"
        )
    )
    print(f"\n{name}: {len(people.pictures)} training pictures of {options.identities} people")
    began = time.perf_counter()
    model.fit(batches, epochs=options.epochs, verbose=0, callbacks=[callback, matched, progress])
    print(f"{time.perf_counter() - began:.0f} s")

    one, other = (watched.pictures[side[:4]] for side in pairs.T)
    Image.fromarray(pair_figure(one, other, similarity_maps(explainer, one, other))).save(folder / "pair.png")
    results = {}
    for places, pictures in held_out.items():
        ranking = rank(*query_and_gallery(pictures), explainer, top=5, explain=4, progress=False)
        Image.fromarray(rank_figure(ranking.explained)).save(folder / f"rank_list_{places}.png")
        results[places] = ranking, before[places], on_person(explainer, pictures)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--identities", type=int, default=160, help="people to train with, at least 16")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--log-dir", type=Path, default=Path("logs/reid"))
    options = parser.parse_args()
    if options.log_dir.exists():
        shutil.rmtree(options.log_dir)  # two timelines in one folder cannot be told apart
    looks = make_looks(options.identities + 30, options.seed)
    strangers = range(options.identities, len(looks))
    held_out = {
        places: make_people(looks, strangers, 4, places == "own", options.seed + 2) for places in ("own", "changing")
    }
    results = {name: train(name, looks, held_out, options) for name in ("clean", "leaky")}

    area = held_out["own"].masks.mean()
    print(f"\n{len(strangers)} people that neither network has trained with, at their own places and at changing ones.")
    print(f"They cover {area:.0%} of their pictures: a map without preference has this share of attention on them.")
    print(f"{'run':<8}{'places':<10}{'rank-1':>8}{'rank-5':>8}{'mAP':>8}{'on the person, start':>22}{'end':>6}")
    for name, result in results.items():
        for places, (ranking, before, after) in result.items():
            first, fifth, mean = ranking.cmc[0], ranking.cmc[4], ranking.mean_ap
            print(f"{name:<8}{places:<10}{first:>8.0%}{fifth:>8.0%}{mean:>8.0%}{before:>22.0%}{after:>6.0%}")
    print("\nRanked lists at either kind of place, and pairs, with what makes the pictures match:")
    for name in results:
        for file in ("rank_list_own.png", "rank_list_changing.png", "pair.png"):
            print(f"    {options.log_dir / name / file}")
    print(
        f"\nNow watch it happen:\n    {Path(sys.executable).with_name('tensorboard')} --logdir {options.log_dir} "
        "--samples_per_plugin images=1000\n"
        "Grad-CAM tab: choose both runs and drag the slider. Attention moves onto the people in the clean run; in the\n"
        "leaky one it stays on what is around them. Scalars: gradcam/mass_inside_mean is the share on the person by\n"
        "epoch. Images tab: the ranked lists, in which the leaky network looks like the better one."
    )


if __name__ == "__main__":
    main()
