"""What TensorBoard loads. An exception here would keep TensorBoard from starting, so there is little here."""

from __future__ import annotations

import logging
from typing import Any

from tensorboard.plugins import base_plugin

from .metadata import PLUGIN_NAME, SAMPLES


class Loader(base_plugin.TBLoader):
    """Offers the tab to TensorBoard and makes it keep every epoch of ours, and of nobody else's data."""

    def fix_flags(self, flags: Any) -> None:
        """Sets the sampling default of this plugin; the user's own ``--samples_per_plugin gradcam=...`` wins."""
        flags.samples_per_plugin = {PLUGIN_NAME: SAMPLES, **(getattr(flags, "samples_per_plugin", None) or {})}

    def load(self, context: Any) -> Any:
        """The plugin, or None if it cannot work with this TensorBoard; TensorBoard then starts without it."""
        try:
            from .server import GradCAMPlugin

            return GradCAMPlugin(context)
        except Exception:
            logging.getLogger(__name__).warning("The Grad-CAM tab cannot be shown", exc_info=True)
            return None
