"""The kernels of ONNX Runtime as its documentation lists them (docs/OperatorKernels.md), for installations that cannot be asked.

Asking one that was built with CUDA and TensorRT for its kernels ends the process where the libraries of either are missing (seen with onnxruntime-gpu 1.31).
"""

from __future__ import annotations

SINGLE, HALF, BRAIN, DOUBLE = "float", "float16", "bfloat16", "double"
ALL = (SINGLE, HALF, BRAIN, DOUBLE)
USUAL = (SINGLE, HALF, BRAIN)
HALVED = (SINGLE, HALF)

CUDA_KERNELS: dict[str, tuple[str, ...]] = {
    "Attention": USUAL,
    "BiasAdd": HALVED,
    "BiasGelu": ALL,
    "BiasSoftmax": (SINGLE, HALF, DOUBLE),
    "BiasSplitGelu": HALVED,
    "ComplexMul": HALVED,
    "ComplexMulConj": HALVED,
    "ConvTransposeWithDynamicPads": (SINGLE,),
    "DecoderAttention": HALVED,
    "DecoderMaskedMultiHeadAttention": HALVED,
    "DecoderMaskedSelfAttention": HALVED,
    "DequantizeLinear": (HALF,),
    "EmbedLayerNormalization": HALVED,
    "FastGelu": ALL,
    "FusedConv": (SINGLE,),
    "FusedMatMul": ALL,
    "GatedRelativePositionBias": HALVED,
    "GatherBlockQuantized": USUAL,
    "Gelu": ALL,
    "GridSample": (SINGLE,),
    "GroupNorm": HALVED,
    "GroupQueryAttention": (HALF, BRAIN),
    "Inverse": (SINGLE, HALF, DOUBLE),
    "Irfft": (SINGLE, HALF, DOUBLE),
    "LongformerAttention": HALVED,
    "MatMulBnb4": USUAL,
    "MatMulNBits": USUAL,
    "MoE": USUAL,
    "MultiHeadAttention": USUAL,
    "NGramRepeatBlock": (SINGLE,),
    "NhwcConv": HALVED,
    "PackedAttention": HALVED,
    "PackedMultiHeadAttention": HALVED,
    "PagedAttention": (HALF, BRAIN),
    "QAttention": HALVED,
    "QMoE": (HALF, BRAIN),
    "QuantizeLinear": (HALF,),
    "QuickGelu": ALL,
    "RelativePositionBias": HALVED,
    "RemovePadding": HALVED,
    "RestorePadding": HALVED,
    "Rfft": (SINGLE, HALF, DOUBLE),
    "RotaryEmbedding": USUAL,
    "SkipGroupNorm": HALVED,
    "SkipLayerNormalization": USUAL,
    "SkipSimplifiedLayerNormalization": USUAL,
    "SparseAttention": (HALF, BRAIN),
    "TransposeMatMul": ALL,
    "Trilu": ALL,
    "UnfoldTensor": ALL,
}
"""Operators of com.microsoft with CUDA kernels -> the floating-point types that these take."""

_BRAIN = """Abs Add Attention AveragePool Cast Compress Concat ConstantOfShape Conv Div Dropout Erf Exp Expand Flatten Gather GatherElements GatherND Gelu Gemm
HardSigmoid HardSwish Identity If IsInf IsNaN LayerNormalization Loop MatMul Max Min Mod Mul Neg Pow RMSNormalization ReduceSum Relu Reshape ReverseSequence
RotaryEmbedding Scan ScatterElements ScatterND Shape Sigmoid Sign Size Slice Softmax Split Sqrt Squeeze Sub Sum Tanh TensorScatter Tile Transpose Trilu
Unsqueeze Where"""
_HALF = """ArgMax ArgMin BatchNormalization Ceil Clip ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Einsum Elu Equal Floor GRU GlobalAveragePool
GlobalMaxPool Greater GreaterOrEqual InstanceNormalization LRN LSTM LeakyRelu Less LessOrEqual Log LogSoftmax MaxPool NonZero OneHot PRelu Pad QuantizeLinear
RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSumSquare Resize Round Selu Shrink Sin Softplus Softsign SpaceToDepth ThresholdedRelu TopK Upsample"""
_SINGLE = "EyeLike GridSample Range RoiAlign"
CUDA_STANDARD: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_BRAIN.split(), USUAL),
    **dict.fromkeys(_HALF.split(), HALVED),
    **dict.fromkeys(_SINGLE.split(), (SINGLE,)),
}
"""Standard operators with CUDA kernels, in whatever opset -> the floating-point types that these take, double left out."""

_CPU = """Attention AttnLSTM BeamSearch BiasGelu BifurcationDetector CDist ConvTransposeWithDynamicPads CropAndResize DecoderMaskedMultiHeadAttention
DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul DynamicTimeWarping EmbedLayerNormalization ExpandDims FastGelu FusedConv FusedGemm FusedMatMul
GatherBlockQuantized GatherND Gelu GreedySearch GridSample GroupQueryAttention Inverse MatMulBnb4 MatMulFpQ4 MatMulInteger16 MatMulIntegerToFloat MatMulNBits
MaxpoolWithMask MoE MultiHeadAttention MurmurHash3 NGramRepeatBlock NhwcMaxPool Pad QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool
QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QLinearWhere QMoE QuantizeLinear QuickGelu Range
RotaryEmbedding SampleOp Sampling SkipLayerNormalization SkipSimplifiedLayerNormalization SparseAttention SparseToDenseMatMul Tokenizer TransposeMatMul Trilu
UnfoldTensor Unique WhisperBeamSearch WordConvEmbedding"""
CPU_KERNELS = frozenset(_CPU.split())
"""Operators of com.microsoft with CPU kernels."""
_CLASSICAL = """ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer LabelEncoder LinearClassifier
LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsembleClassifier TreeEnsembleRegressor ZipMap"""
ML_KERNELS = frozenset(_CLASSICAL.split())
"""Operators of ai.onnx.ml with CPU kernels."""
