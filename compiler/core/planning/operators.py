"""The mapping type of every operator, as far as its name tells; what its shapes and attributes tell besides is in `variants`.

Operators that are not here are Opaque: nobody knows what they do.
"""

from __future__ import annotations

import onnx_ir as ir

from ..target import STANDARD_DOMAINS
from .mapping import Mapping

MICROSOFT, LEARNING, PREVIEW, TRAINING = "com.microsoft", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training"

ELEMENTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "DequantizeLinear", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean",
    "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid",
    "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "SwiGLU", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
})  # fmt: skip
"""One-to-One, but One-to-Many for an operand that is computed and broadcast."""
CHANNELWISE = frozenset({"BatchNormalization", "DequantizeLinear", "QuantizeLinear"})
"""Elementwise in the first operand; the others hold a number for each channel, and are aligned with one of its axes."""
PICKING = frozenset({"CenterCropPad", "Concat", "Slice", "Split", "Trilu", "Pad"})
"""Each element that is made is one that is read, or a constant."""
REORGANIZING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
SHUFFLING = frozenset({"DepthToSpace", "ReverseSequence", "RotaryEmbedding", "SpaceToDepth", "Transpose"})
SPREADING = frozenset({
    "AffineGrid", "BlackmanWindow", "ConstantOfShape", "Expand", "EyeLike", "Gather", "GatherElements", "GatherND", "HammingWindow", "HannWindow",
    "MelWeightMatrix", "OneHot", "Range", "Resize", "Tile", "Upsample",
})  # fmt: skip
PRODUCTS = frozenset({
    "Attention", "CausalConvWithState", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "Einsum", "Gemm", "LinearAttention", "MatMul",
    "MatMulInteger", "QLinearConv", "QLinearMatMul", "RoiAlign", "DFT", "STFT", "Det",
})  # fmt: skip
"""Many-to-Many operators that read an element many times over."""
ROWS = frozenset({
    "ArgMax", "ArgMin", "CumProd", "CumSum", "GroupNormalization", "Hardmax", "InstanceNormalization", "LayerNormalization", "LogSoftmax",
    "LpNormalization", "MeanVarianceNormalization", "RMSNormalization", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Softmax", "TopK", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
    "SimplifiedLayerNormalization",
})  # fmt: skip
"""Many-to-Many operators that read each element a few times."""
GATHERING = frozenset({
    "AveragePool", "Col2Im", "DynamicQuantizeLinear", "GridSample", "LRN", "LpPool", "MaxPool", "MaxRoiPool", "MaxUnpool", "NegativeLogLikelihoodLoss",
    "Scatter", "ScatterElements", "ScatterND", "SoftmaxCrossEntropyLoss", "TensorScatter",
})  # fmt: skip
"""The other Many-to-Many operators."""
NEVER_FUSED = frozenset({
    "Bernoulli", "Compress", "ConcatFromSequence", "Constant", "GRU", "If", "ImageDecoder", "LSTM", "Loop", "Multinomial", "NonMaxSuppression", "NonZero",
    "Optional", "OptionalGetElement", "OptionalHasElement", "RNN", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
    "RegexFullMatch", "Scan", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap",
    "Shape", "Size", "SplitToSequence", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer", "Unique",
})  # fmt: skip
"""Control flow, recurrence, results of unknown size, sequences, texts, random numbers, and what reads no element of its input."""


def _of(domain: str, groups: dict[Mapping, frozenset[str]]) -> dict[tuple[str, str], Mapping]:
    return {(domain, name): mapping for mapping, names in groups.items() for name in names}


MICROSOFT_PRODUCTS = frozenset({
    "Attention", "BiasSplitGelu", "DecoderMaskedMultiHeadAttention", "DecoderMaskedSelfAttention", "DynamicQuantizeMatMul", "FusedConv", "FusedGemm",
    "FusedMatMul", "GemmFastGelu", "GroupQueryAttention", "MatMulBnb4", "MatMulFpQ4", "MatMulInteger16", "MatMulIntegerToFloat", "MatMulNBits",
    "MultiHeadAttention", "NhwcFusedConv", "PackedAttention", "PackedMultiHeadAttention", "QAttention", "QGemm", "QLinearConv", "QMoE", "MoE",
    "SparseAttention", "TransposeMatMul",
})  # fmt: skip
MICROSOFT_ELEMENTWISE = frozenset({
    "BiasAdd", "BiasGelu", "BitmaskDropout", "DequantizeLinear", "FastGelu", "Gelu", "QLinearAdd", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid",
    "QLinearWhere", "QuantizeLinear", "QuickGelu",
})  # fmt: skip
MICROSOFT_ROWS = frozenset({
    "BiasSoftmax", "EmbedLayerNormalization", "GroupNorm", "QEmbedLayerNormalization", "QLinearGlobalAveragePool", "QLinearReduceMean", "QLinearSoftmax",
    "SkipGroupNorm", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
})  # fmt: skip

OPERATORS: dict[tuple[str, str], Mapping] = {
    **_of("", {
        Mapping.ONE_TO_ONE: ELEMENTWISE | PICKING | {"BatchNormalization"},
        Mapping.REORGANIZE: REORGANIZING,
        Mapping.SHUFFLE: SHUFFLING,
        Mapping.ONE_TO_MANY: SPREADING,
        Mapping.MANY_TO_MANY: PRODUCTS | ROWS | GATHERING,
        Mapping.OPAQUE: NEVER_FUSED,
    }),
    **_of(MICROSOFT, {
        Mapping.ONE_TO_ONE: MICROSOFT_ELEMENTWISE | {"QLinearConcat"},
        Mapping.SHUFFLE: frozenset({"RotaryEmbedding"}),
        Mapping.ONE_TO_MANY: frozenset({"GatherBlockQuantized"}),
        Mapping.MANY_TO_MANY: MICROSOFT_PRODUCTS | MICROSOFT_ROWS | {"NhwcMaxPool", "QLinearAveragePool"},
        Mapping.OPAQUE: frozenset({"DynamicQuantizeLSTM", "BeamSearch", "GreedySearch", "Sampling"}),
    }),
    **_of(LEARNING, {
        Mapping.ONE_TO_ONE: frozenset({"Binarizer", "Imputer", "Scaler"}),
        Mapping.ONE_TO_MANY: frozenset({"ArrayFeatureExtractor"}),
        Mapping.MANY_TO_MANY: frozenset({"LinearRegressor", "Normalizer"}),
        Mapping.OPAQUE: frozenset({
            "CastMap", "CategoryMapper", "DictVectorizer", "FeatureVectorizer", "LabelEncoder", "LinearClassifier", "OneHotEncoder", "SVMClassifier",
            "SVMRegressor", "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "ZipMap",
        }),
    }),
    **_of(PREVIEW, {Mapping.OPAQUE: frozenset({"FlexAttention"})}),
    **_of(TRAINING, {Mapping.OPAQUE: frozenset({"Adagrad", "Adam", "Gradient", "Momentum"})}),
}  # fmt: skip
"""(domain, operator) -> mapping type."""

PARAMETERS: dict[str, frozenset[int]] = {
    **dict.fromkeys(("Reshape", "Expand", "Split", "Tile", "Squeeze", "Unsqueeze", "TopK", "OneHot", "CumSum", "CumProd", "CenterCropPad", "Trilu", "CastLike",
                     "AffineGrid", "Upsample"), frozenset({1})),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
                     "ReduceSumSquare"), frozenset({1})),
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow", "ConstantOfShape", "EyeLike"), frozenset({0})),
    **dict.fromkeys(("Dropout", "DFT", "Col2Im"), frozenset({1, 2})),
    "Slice": frozenset({1, 2, 3, 4}),
    "Pad": frozenset({1, 3}),
    "Resize": frozenset({1, 2, 3}),
    "Range": frozenset({0, 1, 2}),
    "MaxUnpool": frozenset({2}),
    "STFT": frozenset({1, 3}),
    "MelWeightMatrix": frozenset({0, 1, 2, 3, 4}),
}  # fmt: skip
"""Operands that say what a standard operator does (a shape, axes, how many) and are no data: whoever runs it must know them first."""


def operator_mapping(node: ir.Node) -> Mapping:
    """The mapping type that the operator's name tells."""
    domain = "" if node.domain in STANDARD_DOMAINS else node.domain
    return OPERATORS.get((domain, node.op_type), Mapping.OPAQUE)


def is_parameter(node: ir.Node, index: int) -> bool:
    """Whether the input at ``index`` says what the operator does, and is no data."""
    return node.domain in STANDARD_DOMAINS and index in PARAMETERS.get(node.op_type, ())


def is_product(node: ir.Node) -> bool:
    """Whether the operator reads an element many times over: what is computed in front of it would be computed as often."""
    if node.domain in STANDARD_DOMAINS:
        return node.op_type in PRODUCTS
    return node.domain == MICROSOFT and node.op_type in MICROSOFT_PRODUCTS
