"""What is known before the first picture survives a file."""

from __future__ import annotations

import json

import pytest
from cli_models import SIZE, network

from keras_gradcam import Class, Explainer
from keras_gradcam.datasets.plan import Plan, make_plan
from keras_gradcam.pictures.spec import picture_spec


def test_a_plan_is_made_of_blank_pictures():
    model = network()
    explainer = Explainer(model, target=Class(1), methods=["gradcam", "saliency"])
    plan = make_plan(explainer, picture_spec(model).blank(), False)
    assert plan == Plan({"gradcam": (6, 4), "saliency": SIZE}, "last", plan.spans, 3, 0, "Class(1)")


@pytest.mark.parametrize(
    "plan",
    [
        Plan({"gradcam": (7, 7)}),
        Plan({"guided_backprop": (8, 8, 3)}, "conv", ((0.25, 0.75), (0.0, 1.0)), 10, 64, "Class()", "value"),
    ],
)
def test_a_plan_is_read_as_it_was_written(plan):
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    "change", [{"maps": None}, {"maps": {"gradcam": ["x"]}}, {"spans": 3}, {"spans": []}, {"num_classes": None}]
)
def test_what_is_no_plan_is_refused(change):
    with pytest.raises((AttributeError, TypeError, ValueError)):
        Plan.from_json({**Plan({}).to_json(), **change})
