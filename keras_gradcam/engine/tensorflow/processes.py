"""Which process of a training on several is the first."""

from __future__ import annotations

import json
import os


def is_first_process() -> bool:
    """Returns whether this is the chief of the cluster that ``TF_CONFIG`` describes, or its first worker.

    True for a training in a single process.

    Source: https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable.

    Example:
        >>> is_first_process()
        True
    """
    try:
        config = json.loads(os.environ.get("TF_CONFIG", "{}"))
        task, cluster = config.get("task", {}), config.get("cluster", {})
        kind, index = task.get("type", "chief"), int(task.get("index", 0))
    except (AttributeError, TypeError, ValueError):  # TensorFlow itself says what is wrong with it
        return True
    if kind in ("chief", "master"):
        return True
    return kind == "worker" and index == 0 and not {"chief", "master"} & set(cluster)
