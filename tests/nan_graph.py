"""A graph whose answer to some images is not finite, as that of a damaged one, or of one that overflows."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def answers_nan_in_the_dark(merged: Path) -> Path:
    """A copy of a merged graph beside it that answers NaN to images that are darker than the mean."""
    model = onnx.load(merged, load_external_data=False)
    graph = model.graph
    (output,) = [node for node in graph.node if "logits" in node.output]
    output.output[list(output.output).index("logits")] = "finite"
    graph.initializer.append(helper.make_tensor("nan_axes", TensorProto.INT64, [3], [1, 2, 3]))
    graph.initializer.append(helper.make_tensor("nan_column", TensorProto.INT64, [2], [-1, 1]))
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["images", "nan_axes"], ["nan_mean"], keepdims=0),
            helper.make_node("Sqrt", ["nan_mean"], ["nan_root"]),
            helper.make_node("Sub", ["nan_root", "nan_root"], ["nan_or_zero"]),
            helper.make_node("Reshape", ["nan_or_zero", "nan_column"], ["nan_each"]),
            helper.make_node("Add", ["finite", "nan_each"], ["logits"]),
        ]
    )
    out = merged.with_name("nan.onnx")
    out.write_bytes(model.SerializeToString())
    return out
