"""Options that several commands share. Imports nothing heavy, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse

from ..engine import BACKENDS


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the model, the code that it is made of, and what runs it."""
    parser.add_argument("model", metavar="MODEL", help="a .keras or .h5 file, or app:NAME")
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="Python code that defines layers, models and functions of your own which MODEL is made of: a .py file, or "
        "a module such as package.layers that is found from the current folder; it is run; may be repeated",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="what Keras runs the model with; by default what the environment variable KERAS_BACKEND or Keras' own "
        "file of settings says, or else tensorflow",
    )


def add_images(parser: argparse.ArgumentParser) -> None:
    """Adds the pictures."""
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="pictures, folders, patterns")


def add_output(parser: argparse._ActionsContainer) -> None:
    """Adds which of several outputs is meant."""
    parser.add_argument("--output", metavar="NAME", help="which output, by name or position, of a model with several")


def add_layer(
    parser: argparse._ActionsContainer,
    text: str = "the feature map: a name or a path; by default the last one with spatial extent (see: layers)",
) -> None:
    """Adds which feature map is meant."""
    parser.add_argument("--layer", metavar="PATH", help=text)


def add_size(parser: argparse._ActionsContainer) -> None:
    """Adds the size of pictures for a model that takes any."""
    parser.add_argument(
        "--size",
        metavar="HxW",
        help="size of the pictures for a model that takes any, such as 320 or 240x320 (224)",
    )


def add_preparation(parser: argparse.ArgumentParser, labels: bool = True) -> None:
    """Adds what is done to pictures, and the names of classes."""
    group = parser.add_argument_group("what goes in")
    group.add_argument(
        "--preprocess",
        metavar="HOW",
        help="what is done to pixels from 0 to 255: none; SCALE,OFFSET (such as 1/127.5,-1); or the name of a module "
        "of keras.applications, such as mobilenet_v2 (densenet stands for the mean and deviation of ImageNet). By "
        "default app: models take their own and other models none",
    )
    group.add_argument(
        "--range",
        metavar="LOW,HIGH",
        help="what is black and white in pictures of more than 8 bits, such as 0,4095, scaled to 0 and 255; or raw: "
        "values as they are. By default 0,65535 for 16 bits",
    )
    add_size(group)
    group.add_argument(
        "--max-file-size", type=positive, default=256, metavar="MB", help="the largest picture file that is read (256)"
    )
    if labels:
        group.add_argument(
            "--labels",
            metavar="FILE",
            help="names of the classes: a text file with one on each line; JSON: a list, {name: number} or "
            "{number: name}; imagenet (downloaded once; the default for app: models with their weights)",
        )


def add_running(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds how many pictures are handled at once; returns the group, for more such options."""
    group = parser.add_argument_group("how it runs")
    group.add_argument("--batch-size", type=positive, default=16, metavar="N", help="pictures at once (16)")
    group.add_argument("--quiet", action="store_true", help="no progress, and no line per picture")
    return group


def add_sharing(group: argparse._ArgumentGroup) -> None:
    """Adds the options that share work among processes and machines."""
    group.add_argument(
        "--shard",
        metavar="K/N",
        help="explain the K-th of N shares of the pictures, such as 3/16: the same rule in N processes that know "
        "nothing of each other. Parquet files of all of them lie in one folder, other results each in its own",
    )
    group.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local (default): this process. ray: the actors of a Ray cluster, for --format parquet (needs pip install "
        "'keras_gradcam[ray]')",
    )
    group.add_argument(
        "--actors",
        type=positive,
        metavar="N",
        help="processes that explain, for --engine ray; by default one for each GPU, or for every two CPUs",
    )


def positive(text: str) -> int:
    """Reads a whole number of at least 1."""
    number = non_negative(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, not {text!r}")
    return number


def non_negative(text: str) -> int:
    """Reads a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number >= 0, not {text!r}")
    return int(text)
