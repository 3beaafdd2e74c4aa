"""Algebraic conversions: a formula of one variable, read as a tree and never run as code.

Source: ASAM MDF 4.1, clause 4.17.4 (algebraic conversion); ASAM GES syntax.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from contracts.errors import UnsupportedFormatError

Floats = npt.NDArray[np.float64]

_BINARY: Mapping[type[ast.operator], Callable[..., Floats]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.Mod: np.fmod,
}
_FUNCTIONS: Mapping[str, Callable[..., Floats]] = {
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "arcsin": np.arcsin,
    "arccos": np.arccos,
    "arctan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "ln": np.log,
    "log10": np.log10,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "pow": np.power,
}
_NAMES = {"X", "X1"}


def formula(text: str) -> Callable[[Floats], Floats]:
    """Function that computes a formula of X (or X1).

    Raises:
        UnsupportedFormatError: UNSUPPORTED_FORMULA, it is not arithmetic of one variable.
    """
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
        with np.errstate(all="ignore"):
            _compute(tree, np.ones(1))
    except (SyntaxError, ValueError, RecursionError, TypeError) as error:
        what = f"the formula {text!r} does not read"
        raise UnsupportedFormatError(what, code="UNSUPPORTED_FORMULA") from error

    def compute(x: Floats) -> Floats:
        return np.broadcast_to(np.asarray(_compute(tree, x), np.float64), x.shape)

    return compute


def _compute(node: ast.expr, x: Floats) -> Floats:
    match node:
        case ast.Constant(value=int() | float() as number):
            return np.float64(number) + np.zeros(1)
        case ast.Name(id=name) if name.upper() in _NAMES:
            return x
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_compute(inner, x)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _compute(inner, x)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _BINARY[type(sign)](_compute(left, x), _compute(right, x))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name.lower() in _FUNCTIONS:
            return _FUNCTIONS[name.lower()](*(_compute(arg, x) for arg in args))
    raise ValueError(ast.dump(node))
