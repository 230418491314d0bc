"""The class that TensorBoard loads. An exception here would keep TensorBoard from starting, so this module is short."""

from __future__ import annotations

import logging
from typing import Any

from tensorboard.plugins import base_plugin

from .metadata import PLUGIN_NAME, SAMPLES


class Loader(base_plugin.TBLoader):
    """Offers the tab to TensorBoard and makes TensorBoard keep every epoch of the tab's data, and of no other data."""

    def fix_flags(self, flags: Any) -> None:
        """Sets the number of epochs to keep, unless the user did with ``--samples_per_plugin gradcam=...``."""
        flags.samples_per_plugin = {PLUGIN_NAME: SAMPLES, **(getattr(flags, "samples_per_plugin", None) or {})}

    def load(self, context: Any) -> Any:
        """Returns the plugin, or None if it cannot work with this TensorBoard, which then starts without it."""
        try:
            from .server import GradCAMPlugin

            return GradCAMPlugin(context)
        except Exception:
            logging.getLogger(__name__).warning("The Grad-CAM tab cannot be shown", exc_info=True)
            return None
