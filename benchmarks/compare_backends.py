"""Whether the engines compute the same: every method on networks of keras.applications and on small ones of the tests.

    python benchmarks/compare_backends.py [NETWORK ...]

Needs TensorFlow, JAX and PyTorch in one environment, and about half an hour on two cores. Every backend computes in a
process of its own, with the same weights and pictures. Printed is a table in Markdown: how far each backend is from
TensorFlow, the largest difference as a share of the largest value, in CAMs and in maps that come from gradients of the
input; and how far each is from plain gradients by its own means. A network that differs by more than 1e-4 is computed
again in double precision, in which rounding decides less at the kinks of rectifiers and poolings.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
BACKENDS = ("tensorflow", "jax", "torch")
AIM = 1e-4

#: Network of keras.applications -> side of the pictures; see benchmarks/applications.py.
APPLICATIONS = {
    "VGG16": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "InceptionV3": 139,
    "InceptionResNetV2": 139,
    "Xception": 96,
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "DenseNet121": 64,
    "NASNetMobile": 96,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "ConvNeXtTiny": 64,
}
SMALL = ("relu", "prelu", "nested", "transfer", "subclassed")

CAMS = ("gradcam", "gradcam_plus_plus", "hirescam", "xgradcam", "layercam")
OF_INPUT = ("guided_backprop", "saliency", "input_x_gradient", "smoothgrad", "integrated_gradients")


def small_network(name: str):
    import keras
    from keras import layers
    from models import ConvnetByCall, called, convnet, nested_convnet, transfer

    build: dict[str, Callable] = {
        "relu": lambda: convnet(lambda position: layers.ReLU(6.0, negative_slope=0.1)),
        "prelu": lambda: convnet(lambda position: layers.PReLU()),
        "nested": nested_convnet,
        "transfer": transfer,
        "subclassed": lambda: called(ConvnetByCall(keras.ops.relu)),
    }
    return build[name]()


def network(name: str, weights: Path):
    """Returns a network and pictures for it; its weights are those of the first backend that asks."""
    import keras

    keras.utils.set_random_seed(0)
    if name in SMALL:
        model = small_network(name)
        size = (12, 10)
    else:
        size = (APPLICATIONS[name],) * 2
        model = getattr(keras.applications, name)(
            weights=None, input_shape=(*size, 3), classes=4, classifier_activation=None
        )
    if weights.exists():
        with np.load(weights) as saved:
            model.set_weights([saved[f"{index}"] for index in range(len(saved))])
    else:
        np.savez(weights, **{f"{index}": weight for index, weight in enumerate(model.get_weights())})
    scale = 1.0 if name in SMALL else 255.0
    return model, scale * np.random.default_rng(0).random((2, *size, 3), dtype=np.float32)


def compute(folder: Path, precision: str, names: list[str]) -> None:
    """Computes all maps with the backend of this process, and what plain gradients give."""
    sys.path.insert(0, str(ROOT / "tests"))
    import keras
    from oracles import gradcam_by_hand, score_and_gradient

    from keras_gradcam import Class, Explainer, IntegratedGradients, SmoothGrad

    keras.config.set_floatx(precision)
    methods = [*CAMS, *OF_INPUT[:3], SmoothGrad(samples=4), IntegratedGradients(steps=8)]
    for name in names:
        out = folder / f"{name}.{keras.config.backend()}.{precision}.npz"
        if out.exists():
            continue
        try:
            model, pictures = network(name, folder / f"{name}.weights.npz")
        except (NotImplementedError, ValueError) as error:
            print(keras.config.backend(), name, "is not offered by Keras:", str(error).splitlines()[0], flush=True)
            continue
        pictures = pictures.astype(precision)
        sign_file = folder / f"{name}.sign"
        sign = int(sign_file.read_text()) if sign_file.exists() else 1
        result = Explainer(model, target=sign * Class(1), methods=methods)(pictures)
        # The map of a score may be zero everywhere, which would prove nothing; then that of minus it.
        if not sign_file.exists() and not result.gradcam.any(axis=(1, 2)).all():
            sign = -1
            result = Explainer(model, target=-Class(1), methods=methods)(pictures)
        sign_file.write_text(str(sign))
        arrays = {method: np.asarray(result.maps[method]) for method in (*CAMS, *OF_INPUT)}

        def score(x, model=model, sign=sign):
            return sign * model(x, training=False)[:, 1]

        if name not in SMALL:  # the small networks end in a softmax, and some have no graph to cut
            both = keras.Model(model.inputs, [model.get_layer(result.layer).output, model.output])
            # The picture is an input of it too: what skips the layer comes from there.
            head = keras.Model([both.outputs[0], *model.inputs], model.output)
            tensor = keras.ops.convert_to_tensor(pictures)
            _, of_input = score_and_gradient(score, tensor)
            features = both(tensor, training=False)[0]

            def above(a, head=head, sign=sign, tensor=tensor):
                return sign * head([a, tensor], training=False)[:, 1]

            _, gradients = score_and_gradient(above, features)
            arrays["oracle of gradcam"] = gradcam_by_hand(*map(keras.ops.convert_to_numpy, (features, gradients)))
            arrays["oracle of saliency"] = np.abs(keras.ops.convert_to_numpy(of_input)).max(axis=-1)
        np.savez(out, **arrays)
        print(keras.config.backend(), name, precision, flush=True)
        keras.utils.clear_session()


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    found, expected = np.asarray(found, "float64"), np.asarray(expected, "float64")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def run(folder: Path, precision: str, names: list[str]) -> None:
    """Lets every backend compute, one after another."""
    for backend in BACKENDS:
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if precision == "float64":
            environment["JAX_ENABLE_X64"] = "1"
        command = [sys.executable, __file__, *names, "--folder", str(folder), "--precision", precision]
        subprocess.run(command, env=environment, check=True)


def errors(folder: Path, name: str, precision: str) -> dict[str, float]:
    """Returns the differences of a network: "jax cams", "jax of input", "jax oracle", ..."""
    files = {backend: folder / f"{name}.{backend}.{precision}.npz" for backend in BACKENDS}
    maps = {backend: dict(np.load(file)) for backend, file in files.items() if file.exists()}
    found = {}
    for backend, arrays in maps.items():
        for kind, methods in (("cams", CAMS), ("of input", OF_INPUT)):
            of_all = [difference(arrays[method], maps["tensorflow"][method]) for method in methods]
            found[f"{backend} {kind}"] = max(of_all)
        if "oracle of gradcam" in arrays:
            own = [difference(arrays[method], arrays[f"oracle of {method}"]) for method in ("gradcam", "saliency")]
            found[f"{backend} oracle"] = max(own)
    return found


def row_of(folder: Path, name: str) -> str:
    cells = [name]
    single = errors(folder, name, "float32")
    columns = ("tensorflow oracle", *(f"{b} {kind}" for b in BACKENDS[1:] for kind in ("cams", "of input", "oracle")))
    cells += [f"{single[column]:.0e}" if column in single else "" for column in columns]
    double = errors(folder, name, "float64") if (folder / f"{name}.tensorflow.float64.npz").exists() else {}
    worst = max(double.values(), default=None)
    return "| " + " | ".join([*cells, "" if worst is None else f"{worst:.0e}"]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[*APPLICATIONS, *SMALL], metavar="NETWORK")
    parser.add_argument("--folder", type=Path, help="where maps are kept; what is there is not computed again")
    parser.add_argument("--precision", help="compute in it with the backend in use, and print no table")
    options = parser.parse_args()
    if options.precision:
        options.folder.mkdir(parents=True, exist_ok=True)
        compute(options.folder, options.precision, options.names)
        return
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    run(folder, "float32", options.names)
    far = [name for name in options.names if max(errors(folder, name, "float32").values()) > AIM]
    if far:
        run(folder, "float64", far)
    print(
        "| network | TensorFlow, plain gradients | JAX, CAMs | JAX, of the input | JAX, plain gradients "
        "| PyTorch, CAMs | PyTorch, of the input | PyTorch, plain gradients | in float64, the worst |"
    )
    print("|---" * 9 + "|")
    for name in options.names:
        print(row_of(folder, name))


if __name__ == "__main__":
    main()
