"""Packages that only some functions need: imported where they are used, with words on how to install them."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def import_pyarrow() -> Any:
    """Returns pyarrow with its modules for Parquet and computing.

    Raises:
        ImportError: If it is not installed.
    """
    return _import("pyarrow", "Parquet files", "parquet", ("pyarrow.compute", "pyarrow.parquet"))


def import_ray() -> Any:
    """Returns Ray with its module for data.

    Raises:
        ImportError: If it is not installed.
    """
    return _import("ray", "engine='ray'", "ray", ("ray.data",))


def import_faiss() -> Any:
    """Returns faiss.

    Raises:
        ImportError: If it is not installed.
    """
    return _import("faiss", "index='faiss'", "index")


def import_usearch() -> Any:
    """Returns usearch's module of indices.

    Raises:
        ImportError: If it is not installed.
    """
    return _import("usearch.index", "index='usearch'", "index")


def _import(name: str, purpose: str, extra: str, modules: tuple[str, ...] = ()) -> Any:
    try:
        package = import_module(name)
        for module in modules:
            import_module(module)
    except ImportError as error:
        words = f"{purpose} need{'' if purpose.endswith('s') else 's'} {name.split('.')[0]}"
        raise ImportError(f"{words}, which is not installed: pip install 'keras_gradcam[{extra}]'.") from error
    return package
