"""Types of TensorFlow operations, by how the elements of their results come from those of their inputs."""

from __future__ import annotations

#: Operations whose results do not depend on the values of their input.
NO_CONTENT = {"Shape", "ShapeN", "Rank", "Size", "ZerosLike", "OnesLike"}

#: Each element of the output is computed from the elements of the inputs in the same position.
ELEMENTWISE = {
    *("Abs", "Acos", "Acosh", "Add", "AddN", "AddV2", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "BiasAdd", "Cast"),
    *("Ceil", "CheckNumerics", "ClipByValue", "Cos", "Cosh", "Digamma", "Div", "DivNoNan", "Elu", "EnsureShape"),
    *("Equal", "Erf", "Erfc", "Erfinv", "Exp", "Expm1", "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars"),
    *("FakeQuantWithMinMaxVarsPerChannel", "Floor", "FloorDiv", "FloorMod", "Greater", "GreaterEqual", "Identity"),
    *("IsFinite", "IsInf", "IsNan", "LeakyRelu", "Less", "LessEqual", "Lgamma", "Log", "Log1p", "LogicalAnd"),
    *("LogicalNot", "LogicalOr", "Maximum", "Minimum", "Mul", "MulNoNan", "Neg", "NotEqual", "Pow"),
    *("PreventGradient", "RealDiv", "Reciprocal", "Relu", "Relu6", "Rint", "Round", "Rsqrt", "SelectV2", "Selu"),
    *("Sigmoid", "Sign", "Sin", "Sinh", "Snapshot", "Softplus", "Softsign", "Sqrt", "Square", "SquaredDifference"),
    *("StopGradient", "Sub", "Tan", "Tanh", "TruncateDiv", "Xdivy", "Xlog1py", "Xlogy"),
}

#: Elements are moved and nothing else: TensorFlow itself is asked where to, by moving boxes in their stead.
MOVES = {
    *("BatchToSpaceND", "BroadcastTo", "ConcatV2", "DepthToSpace", "ExtractImagePatches", "GatherNd", "GatherV2"),
    *("MirrorPad", "Pack", "Pad", "PadV2", "ResizeNearestNeighbor", "ReverseV2", "Roll", "Slice", "SpaceToBatchND"),
    *("SpaceToDepth", "Split", "SplitV", "StridedSlice", "Tile", "Transpose", "Unpack"),
}

RESIZES = {"ResizeArea", "ResizeBicubic", "ResizeBilinear", "ScaleAndTranslate"}

REDUCTIONS = {"All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum"}

ALONG_LAST = {"LogSoftmax", "LRN", "Softmax"}

POOLINGS = {"AvgPool", "MaxPool"}

CONVOLUTIONS = {"Conv2D", "DepthwiseConv2dNative"}

RESHAPES = {"ExpandDims", "Reshape", "Squeeze"}

#: Calls of functions that were left whole.
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}

NORMALIZATIONS = {"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}

MATRIX_PRODUCTS = {"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"}
