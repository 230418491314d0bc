"""What is set before Keras is imported, and which tests belong to the Keras backend in use (``KERAS_BACKEND``)."""

import os
import re
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# JAX keeps what it has compiled: many tests train the same small network.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir(), f"keras_gradcam-jax-{os.getuid()}")))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import keras

_ROOT = Path(__file__).parent
_OTHERS = [name for name in ("tensorflow", "jax", "torch") if name != keras.config.backend()]
_IMPORTS = re.compile(rf"^import ({'|'.join(_OTHERS)})\b", re.MULTILINE)

# Engines of other backends, whose packages need not be installed, and test files that import one.
collect_ignore_glob = [f"*/engine/{name}/*" for name in _OTHERS]
collect_ignore = [
    str(path.relative_to(_ROOT)) for path in (_ROOT / "tests").rglob("*.py") if _IMPORTS.search(path.read_text())
]
