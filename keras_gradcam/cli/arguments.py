"""Commands and options, and their help. Imports nothing heavy, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from ..attribution.methods.names import CAMS, DEFAULT_METHODS, INPUT_MAPS
from ..version import __version__
from .errors import CommandError
from .options import (
    add_images,
    add_layer,
    add_model,
    add_output,
    add_preparation,
    add_running,
    add_sharing,
    add_size,
    non_negative,
    positive,
)

#: Name of each command to the module that runs it.
COMMANDS = {
    "explain": "explain.command",
    "layers": "layers",
    "filters": "filters",
    "top": "filters",
    "trust": "trust",
    "rank": "rank",
    "show": "show",
    "report": "report",
    "tensorboard": "tensorboard",
}

_EXIT_CODES = "exit codes: 0 all went well, 1 some pictures failed, 2 wrong usage or input, 130 interrupted"

_MODEL = """MODEL is a .keras or .h5 file, or app:NAME for a network of keras.applications, such as app:MobileNetV2
(ImageNet weights are downloaded once) or app:MobileNetV2?weights=none (random weights). Files are loaded in Keras'
safe mode: one that holds pickled Python code is refused. Layers of your own come from the code that you --import."""

_PICTURES = """IMAGES are files, folders (searched through) or patterns such as 'photos/**/*.jpg'. Pictures are turned
as their camera says (EXIF), transparent ones laid on white, animations read as their first frame, and resized as a
whole to the size that the model takes. Grey pictures of more than 8 bits keep them (see --range)."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see: {self.prog} --help)")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parses the words of a command line; prints and exits for ``--help`` and ``--version``.

    Raises:
        CommandError: If there is no such command or option, or a value does not fit.
    """
    options, rest = _parser().parse_known_args(words)
    if options.command == "tensorboard":
        options.passed_on = rest
    elif rest:
        raise CommandError(f"unrecognized arguments: {' '.join(rest)} (see: keras-gradcam {options.command} --help)")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="keras-gradcam",
        description="See what a Keras vision model looks at.",
        epilog=f"keras-gradcam COMMAND --help shows options and examples of a command.\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"keras-gradcam {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        _add_explain,
        _add_layers,
        _add_filters,
        _add_top,
        _add_trust,
        _add_rank,
        _add_show,
        _add_report,
        _add_tensorboard,
    ):
        add(commands)
    return parser


def _add_command(
    commands: argparse._SubParsersAction[_Parser], name: str, purpose: str, text: str, examples: Sequence[str]
) -> argparse.ArgumentParser:
    """Adds a command.

    Args:
        commands: What to add it to.
        name: Its name.
        purpose: What it does, in the list of commands.
        text: More about it, in its own help.
        examples: Words that follow its name.
    """
    lines = "\n".join(f"  keras-gradcam {name} {example}" for example in examples)
    parser = commands.add_parser(
        name,
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}.\n\n{text}".rstrip(),
        epilog=f"examples:\n{lines}\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # An abbreviated option would change its meaning when a longer one is added; and TensorBoard has options too.
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks and the log of Keras' backend")
    return parser


def _add_explain(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = _add_command(
        commands,
        "explain",
        "draw what a model looks at in pictures",
        f"{_MODEL}\n\n{_PICTURES}\n\nAn interrupted run goes on where it was when the same command is given again. "
        "manifest.json appears in\nthe folder when everything is done.",
        [
            "model.keras cat.jpg",
            "app:MobileNetV2 photos/ --class top3 --out maps",
            "model.keras photos/ --labels names.txt --class cat --contrast dog --preprocess 1/127.5,-1",
            "model.h5 'photos/**/*.png' --method gradcam,layercam --layer block5_conv3 --format separate",
            "model.keras photos/ --import my_layers.py",
            "model.keras photos/ --format parquet --shard 3/16 --out rows",
        ],
    )
    add_model(parser)
    add_images(parser)
    question = parser.add_argument_group("what is explained")
    question.add_argument(
        "--class",
        dest="of_class",
        default="predicted",
        metavar="CLASS",
        help="predicted (default); a number; a name, or a part of it that no other name has; top3: the three best "
        "classes of each picture, a row each",
    )
    question.add_argument("--contrast", metavar="CLASS", help="what speaks for --class rather than for this one")
    question.add_argument("--counterfactual", action="store_true", help="what speaks against --class")
    add_output(question)
    add_layer(question)
    question.add_argument(
        "--method",
        action="append",
        metavar="NAME",
        help=f"one or several with commas; may be repeated. On the layer's grid: {', '.join(CAMS)}. At the size of the "
        f"picture: {', '.join(INPUT_MAPS)}. Default: {','.join(DEFAULT_METHODS)}",
    )
    add_preparation(parser)
    result = parser.add_argument_group("what comes out")
    result.add_argument("--out", default="gradcam_out", metavar="DIR", help="folder of the results (gradcam_out)")
    result.add_argument(
        "--format",
        choices=("panel", "separate", "npz", "parquet"),
        default="panel",
        help="panel (default): NAME.png, the picture and its maps side by side. separate: NAME.METHOD.png, each map "
        "alone, in the picture's own size up to 2048 pixels. npz: NAME.npz: raw maps, scores, classes, probabilities. "
        "parquet: a row for each picture, in files that pandas, DuckDB and Spark read, for any number of pictures "
        "(needs pip install 'keras_gradcam[parquet]'); see: show",
    )
    result.add_argument("--colormap", default="inferno", metavar="NAME", help="any of matplotlib's (inferno)")
    result.add_argument("--overwrite", action="store_true", help="replace results that were made with other settings")
    add_sharing(add_running(parser))


def _add_layers(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = _add_command(
        commands,
        "layers",
        "list the layers that can be explained",
        f"{_MODEL}\n\nThe layer that is explained unless --layer names another is marked with *.",
        ["model.keras", "app:ResNet50?weights=none", "model.keras --import my_layers.py"],
    )
    add_model(parser)
    add_size(parser)


def _add_filters(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = _add_command(
        commands,
        "filters",
        "draw the learned filters of a convolution",
        _MODEL,
        ["model.keras", "model.keras --layer conv1 --out filters.png"],
    )
    add_model(parser)
    add_layer(parser, "the convolution: a name or a path; by default the first one")
    parser.add_argument(
        "--sort",
        choices=("norm", "similarity", "none"),
        default="norm",
        help="norm (default): the largest first; similarity: alike ones side by side; none: as they lie in the layer",
    )
    parser.add_argument(
        "--common",
        action="store_true",
        help="one scale for all filters, to compare strength; each has its own otherwise",
    )
    parser.add_argument(
        "--out", default="filters.png", metavar="FILE", help="the drawing, replaced if it is there (filters.png)"
    )


def _add_top(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = _add_command(
        commands,
        "top",
        "find the pictures that excite filters most",
        f"{_MODEL}\n\n{_PICTURES}",
        ["model.keras photos/ --layer conv5 --filters 0,3,7", "app:VGG16 photos/ --top 4 --out excited.png"],
    )
    add_model(parser)
    add_images(parser)
    add_layer(parser)
    parser.add_argument("--filters", metavar="N,N,...", help="which ones, counted from 0; by default the first 8")
    parser.add_argument("--top", type=positive, default=9, metavar="N", help="how many pictures of each filter (9)")
    parser.add_argument(
        "--out",
        default="top.png",
        metavar="FILE",
        help="the drawing, with a .json beside it; replaced if they are there (top.png)",
    )
    add_preparation(parser, labels=False)
    add_running(parser)


def _add_trust(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = _add_command(
        commands,
        "trust",
        "say how far the maps of some pictures can be trusted",
        f"{_MODEL}\n\n{_PICTURES}\n\nPrints a table: does the score follow what the maps show, do the maps depend on "
        "what the model has learned,\neach beside what random maps get. Some dozens of pictures give steady numbers.",
        ["model.keras photos/", "app:ResNet50 photos/ --class cat --method layercam --limit 32"],
    )
    add_model(parser)
    add_images(parser)
    parser.add_argument(
        "--class", dest="of_class", default="predicted", metavar="CLASS", help="predicted (default), a number or a name"
    )
    add_output(parser)
    add_layer(parser)
    parser.add_argument("--method", action="append", metavar="NAME", help="which maps, see explain (gradcam)")
    parser.add_argument(
        "--limit", type=positive, default=64, metavar="N", help="how many pictures, evenly spaced among IMAGES (64)"
    )
    add_preparation(parser)
    add_running(parser)
    # What `explain` asks beyond this.
    parser.set_defaults(contrast=None, counterfactual=False, colormap="inferno", format="panel")


def _add_rank(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = _add_command(
        commands,
        "rank",
        "rank a gallery for queries and show what makes pictures match",
        f"{_MODEL}\nThe model returns embeddings.\n\nIdentity and camera are read from the names of files as in "
        "Market-1501: 0002_c1s1_000451_03.jpg is\nidentity 2, camera 1; identity -1 is junk and never counted. "
        "Pictures of the query's identity and camera\nare left out, as there. A folder may also hold rows with "
        "embeddings, as\nexplain_dataset(..., embedding=True) writes them in Python.",
        [
            "reid.keras --query market/query --gallery market/bounding_box_test",
            r"reid.keras --query q --gallery g --pattern '(?P<id>\d+)_cam(?P<camera>\d+)' --top 5 --show 10",
            r"reid.keras --query q --gallery g --pattern '(?P<id>\d+)/'",
        ],
    )
    add_model(parser)
    parser.add_argument("--query", required=True, metavar="DIR", help="folder of the queries")
    parser.add_argument("--gallery", required=True, metavar="DIR", help="folder of the gallery")
    parser.add_argument(
        "--pattern",
        default=r"(?P<id>-?\d+)_c(?P<camera>\d+)",  # reid.folders.MARKET_1501, which imports more than help may
        metavar="REGEX",
        help="finds the groups 'id' and 'camera' (which may be missing) in names of files, or else in their paths "
        "within the folder; by default Market-1501's",
    )
    parser.add_argument("--metric", choices=("cosine", "euclidean"), default="cosine", help="cosine by default")
    parser.add_argument("--top", type=positive, default=10, metavar="N", help="how many of each list are kept (10)")
    parser.add_argument(
        "--show",
        type=non_negative,
        default=5,
        metavar="N",
        help="how many queries are drawn with maps (5), of different identities as far as there are",
    )
    add_layer(parser)
    parser.add_argument(
        "--out",
        default="gradcam_rank",
        metavar="DIR",
        help="folder of rank_list.png and ranking.json, replaced if they are there (gradcam_rank)",
    )
    parser.add_argument("--colormap", default="inferno", metavar="NAME", help="any of matplotlib's (inferno)")
    add_preparation(parser, labels=False)
    add_running(parser)


def _add_show(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = _add_command(
        commands,
        "show",
        "draw a contact sheet of results in Parquet files",
        "RESULTS is a folder that explain --format parquet wrote to, or explain_dataset in Python. Prints the paths of "
        "the\npictures that are drawn.",
        [
            "rows --query wrong-and-confident",
            "rows --sort mass_inside --limit 12 --out outside.png",
            "rows --ids chosen.txt",
        ],
    )
    parser.add_argument("results", metavar="RESULTS", help="a folder of results")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--query",
        metavar="NAME",
        help="wrong-and-confident, unsure (default; lowest-score without classes), lowest-mass-inside, "
        "right-but-outside, narrowest-focus, widest-focus, weakest-map, lowest-score, highest-score",
    )
    chosen.add_argument("--sort", metavar="COLUMN", help="the smallest of any column of numbers")
    chosen.add_argument("--ids", metavar="FILE", help="the pictures whose paths stand in a text file, or - for stdin")
    parser.add_argument("--descending", action="store_true", help="the largest of --sort")
    parser.add_argument("--limit", type=positive, default=24, metavar="N", help="how many are drawn (24)")
    parser.add_argument("--pictures", metavar="DIR", help="where the pictures lie, if they were moved since")
    parser.add_argument("--colormap", default="inferno", metavar="NAME", help="any of matplotlib's (inferno)")
    parser.add_argument(
        "--out", default="sheet.png", metavar="FILE", help="the drawing, replaced if it is there (sheet.png)"
    )


def _add_report(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = _add_command(
        commands,
        "report",
        "print how attention moved during a training",
        "LOGDIR is the folder that GuidedGradCAMCallback wrote to, or one that holds several such. A training that\n"
        "was interrupted, or is still going on, is reported as far as it got.",
        ["logs/run1", "logs > report.md"],
    )
    parser.add_argument("logdir", metavar="LOGDIR", help="a folder of event files")


def _add_tensorboard(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = _add_command(
        commands,
        "tensorboard",
        "start TensorBoard so that it keeps every epoch",
        "Starts TensorBoard with --samples_per_plugin images=1000, without which it keeps 10 random epochs of every\n"
        "picture. Other arguments are passed on to it.",
        ["logs", "logs --port 6007 --bind_all"],
    )
    parser.add_argument("logdir", metavar="LOGDIR", help="a folder of event files")
