"""Types of TensorFlow operations, by how the elements of their results come from those of their inputs."""

from __future__ import annotations

#: Operations whose results depend on the shape of their input alone.
OF_SHAPES = {"Rank", "Shape", "ShapeN", "Size"}

#: Each element of the output is computed from the elements of the inputs in the same position.
ELEMENTWISE = {
    *("Abs", "Acos", "Acosh", "Add", "AddN", "AddV2", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "BiasAdd", "Cast"),
    *("Ceil", "CheckNumerics", "ClipByValue", "Cos", "Cosh", "Digamma", "Div", "DivNoNan", "Elu", "EnsureShape"),
    *("Equal", "Erf", "Erfc", "Erfinv", "Exp", "Expm1", "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars"),
    *("FakeQuantWithMinMaxVarsPerChannel", "Floor", "FloorDiv", "FloorMod", "Greater", "GreaterEqual", "Identity"),
    *("IsFinite", "IsInf", "IsNan", "LeakyRelu", "Less", "LessEqual", "Lgamma", "Log", "Log1p", "LogicalAnd"),
    *("LogicalNot", "LogicalOr", "Maximum", "Minimum", "Mul", "MulNoNan", "Neg", "NotEqual", "Pow"),
    *("OnesLike", "PreventGradient", "RealDiv", "Reciprocal", "Relu", "Relu6", "Rint", "Round", "Rsqrt", "Select"),
    *("SelectV2", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Snapshot", "Softplus", "Softsign", "Sqrt", "Square"),
    *("SquaredDifference", "StopGradient", "Sub", "Tan", "Tanh", "TruncateDiv", "Xdivy", "Xlog1py", "Xlogy"),
    "ZerosLike",
}

#: Elements are moved and nothing else.
MOVES = {
    *("BatchToSpaceND", "BroadcastTo", "ConcatV2", "DepthToSpace", "ExtractImagePatches", "GatherNd", "GatherV2"),
    *("MirrorPad", "Pack", "Pad", "PadV2", "ReverseV2", "Roll", "Slice", "SpaceToBatchND"),
    *("SpaceToDepth", "Split", "SplitV", "StridedSlice", "Tile", "Transpose", "Unpack"),
}

RESIZES = {"ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "ScaleAndTranslate"}

REDUCTIONS = {"All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum"}

ALONG_LAST = {"LogSoftmax", "LRN", "Softmax"}

POOLINGS = {"AvgPool", "AvgPool3D", "MaxPool", "MaxPool3D"}

CONVOLUTIONS = {"Conv2D", "Conv3D", "DepthwiseConv2dNative"}

TRANSPOSED_CONVOLUTIONS = {"Conv2DBackpropInput", "Conv3DBackpropInputV2"}

RESHAPES = {"ExpandDims", "Reshape", "Squeeze"}

#: Calls of functions that were left whole.
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}

#: Branches, of which shapes often decide.
BRANCHES = {"If", "StatelessIf"}

NORMALIZATIONS = {"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}

MATRIX_PRODUCTS = {"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"}
