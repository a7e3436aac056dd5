"""The layers of a Keras model as JSON has them: what the child that builds it writes down."""

from __future__ import annotations

from typing import Any

_FACTS = (
    *("activation", "strides", "padding", "dilation_rate", "groups", "depth_multiplier", "data_format"),
    *("epsilon", "max_value", "pool_size", "keepdims", "scale"),
)
"""What of a layer's configuration says what it computes."""


def describe_layers(base: Any) -> list[dict[str, Any]]:
    """The layers of a Keras model that was built channels last, as JSON has them; the fields are those of `Layer`."""
    places = {id(weight): f"{place:04d}" for place, weight in enumerate(base.weights)}
    makers = {id(operation.output): operation.name for operation in base.operations}
    found = []
    for operation in base.operations:
        inputs = [] if type(operation).__name__ == "InputLayer" else operation.input
        weights = getattr(operation, "weights", [])
        config = operation.get_config()
        found.append(
            {
                "name": operation.name,
                "kind": type(operation).__name__,
                "inputs": [makers[id(tensor)] for tensor in (inputs if isinstance(inputs, list) else [inputs])],
                "shape": list(operation.output.shape[1:]),
                "weights": {weight.path.split("/")[-1]: places[id(weight)] for weight in weights},
                "weight_shapes": {weight.path.split("/")[-1]: list(weight.shape) for weight in weights},
                "facts": {name: config[name] for name in _FACTS if name in config},
            }
        )
    return found
