"""The primitives by family. Read `elementwise.py` first: it shows how all of them are declared."""

from tinygrad_seq.ops.decompose import cholesky, det, eigh, eigvalsh, inv, slogdet, solve
from tinygrad_seq.ops.elementwise import (
    abs, absolute, add, astype, bitwise_and, bitwise_or, bitwise_xor, ceil, clip, detach, divide, equal, exp, floor,
    floor_divide, greater, greater_equal, invert, isclose, isfinite, isinf, isnan, less, less_equal, log, logical_and,
    logical_not, logical_or, logical_xor, maximum, minimum, multiply, negative, not_equal, power, relu, remainder, rint,
    round, sigmoid, sign, sqrt, square, subtract, tanh, trunc, where,
)  # fmt: skip
from tinygrad_seq.ops.index import argsort, getitem, sort, take, take_along_axis
from tinygrad_seq.ops.linalg import dot, einsum, inner, kron, matmul, outer, tensordot, vdot
from tinygrad_seq.ops.nn import conv1d_causal, dropout, embedding, layer_norm, log_softmax, one_hot, softmax
from tinygrad_seq.ops.reduce import (
    all, allclose, any, argmax, argmin, array_equal, count_nonzero, cumprod, cumsum, logsumexp, max, mean, min, norm,
    prod, std, sum, trace, var,
)  # fmt: skip
from tinygrad_seq.ops.shape import (
    broadcast_to, concatenate, diag, diagonal, expand_dims, flip, hstack, moveaxis, pad, ravel, repeat, reshape, roll,
    split, squeeze, stack, swapaxes, tile, transpose, tril, triu, unstack, vstack,
)  # fmt: skip
from tinygrad_seq.ops.special import (
    arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh, cbrt, cos, cosh, degrees, elu, exp2, expm1, fabs, gelu,
    hypot, leaky_relu, log1p, log2, log10, logaddexp, positive, radians, reciprocal, silu, sin, sinh, softplus, tan,
)  # fmt: skip

__all__ = [
    "abs", "absolute", "add", "all", "allclose", "any", "arccos", "arccosh", "arcsin", "arcsinh", "arctan",
    "arctan2", "arctanh", "argmax", "argmin", "argsort", "array_equal", "astype", "bitwise_and", "bitwise_or",
    "bitwise_xor", "broadcast_to", "cbrt", "ceil", "cholesky", "clip", "concatenate", "conv1d_causal", "cos",
    "cosh", "count_nonzero", "cumprod", "cumsum", "degrees", "det", "detach", "diag", "diagonal", "divide", "dot",
    "dropout", "eigh", "eigvalsh", "einsum", "elu", "embedding", "equal", "exp", "exp2", "expand_dims", "expm1",
    "fabs", "flip", "floor", "floor_divide", "gelu", "getitem", "greater", "greater_equal", "hstack", "hypot",
    "inner", "inv", "invert", "isclose", "isfinite", "isinf", "isnan", "kron", "layer_norm", "leaky_relu", "less",
    "less_equal", "log", "log10", "log1p", "log2", "log_softmax", "logaddexp", "logical_and", "logical_not",
    "logical_or", "logical_xor", "logsumexp", "matmul", "max", "maximum", "mean", "min", "minimum", "moveaxis",
    "multiply", "negative", "norm", "not_equal", "one_hot", "outer", "pad", "positive", "power", "prod", "radians",
    "ravel", "reciprocal", "relu", "remainder", "repeat", "reshape", "rint", "roll", "round", "sigmoid", "sign",
    "silu", "sin", "sinh", "slogdet", "softmax", "softplus", "solve", "sort", "split", "sqrt", "square", "squeeze",
    "stack", "std", "subtract", "sum", "swapaxes", "take", "take_along_axis", "tan", "tanh", "tensordot", "tile",
    "trace", "transpose", "tril", "triu", "trunc", "unstack", "var", "vdot", "vstack", "where",
]  # fmt: skip
