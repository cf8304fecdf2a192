"""Fit the polynomials of vecmath.hpp and write them into it.

Every row of table() below is the minimax approximation, by the exchange algorithm of Remez in
50-digit arithmetic, of a function f on an interval under a weight w: it minimises max |w (f - p)|.
The weight turns the error of the fitted part into the relative error of the function finally
computed, which is printed beside the coefficients. Coefficients are then rounded to the precision
they are used in; leading terms are exact by the form of each kernel (r + r^2 q(r), say), so this
costs nothing visible.

    python fit_vecmath.py            print the coefficients and their errors
    python fit_vecmath.py --write    replace the block between the markers in vecmath.hpp
    python fit_vecmath.py --check    exit with 1 if that block differs from what this script derives

Needs mpmath only.
"""
# ruff: noqa: D103

from __future__ import annotations

import argparse
import struct
import sys
from pathlib import Path

import mpmath as m
from mpmath import mpf

m.mp.dps = 50
HEADER = Path(__file__).resolve().parent.parent / "include" / "srfx" / "vecmath.hpp"
BEGIN, END = "// BEGIN coefficients (tools/fit_vecmath.py)\n", "// END coefficients\n"


# --- functions to fit, with their limits where the formula is 0/0 ---
def expm1_part(r):  # expm1(r) = r + r^2 q(r)
    return (m.expm1(r) - r) / r**2 if abs(r) > 1e-15 else mpf(1) / 2 + r / 6


def log1p_part(z):  # 2 atanh(s) = 2 s + s z p(z), z = s^2
    s = m.sqrt(z)
    return (2 * m.atanh(s) - 2 * s) / (s * z) if z else mpf(2) / 3


def sin_part(z):  # sin(r) = r + r z p(z), z = r^2
    r = m.sqrt(z)
    return (m.sin(r) - r) / (r * z) if z else -mpf(1) / 6


def cos_part(z):  # cos(r) = 1 + z p(z), z = r^2
    return (m.cos(m.sqrt(z)) - 1) / z if z > 1e-15 else -mpf(1) / 2 + z / 24


def erf_small(z):  # erf(a) = a + a p(z), z = a^2
    a = m.sqrt(z)
    return m.erf(a) / a - 1 if z else 2 / m.sqrt(m.pi) - 1


def erf_large(a):  # erfc(a) = exp(-(a + a p(a)))
    return -m.log(m.erfc(a)) / a - 1


def normal_tail(a):  # Q(a) = exp(-a^2 / 2) R(a), Q the upper tail of the normal distribution
    return m.erfc(a / m.sqrt(2)) / 2 * m.exp(a * a / 2)


# --- weights: d(result)/result per unit of error in the fitted part ---
# Kept off zero, where any weight would do.
def off_zero(w, floor):
    return lambda x: max(w(x), mpf(floor))


def expm1_weight(r):
    return r * r / abs(m.expm1(r)) if abs(r) > 1e-15 else abs(r)


def log1p_weight(z):
    s = m.sqrt(z)
    return s * z / (2 * m.atanh(s)) if z else mpf(0)


def sin_weight(z):
    r = m.sqrt(z)
    return r * z / m.sin(r) if z else mpf(0)


def cos_weight(z):
    return z / m.cos(m.sqrt(z))


def erf_small_weight(z):
    a = m.sqrt(z)
    return a / m.erf(a) if z else m.sqrt(m.pi) / 2


def erf_large_weight(a):
    return a * m.erfc(a) / m.erf(a)


# --- Remez exchange: numerator of degree n over denominator 1 + ... of degree d ---
def evaluate(c, x):
    return m.polyval(c[::-1], x)


def remez(f, w, node, n, d=0, rounds=30):
    """Coefficients (low order first) and weighted error of the best p/q.

    `node` maps [-1, 1] to the interval. Each round solves
    p(x_i) - f(x_i) q(x_i) + (-1)^i E q(x_i) / w(x_i) = 0 at the reference points, the last q taken
    from the iteration before, then moves the points to the extrema of the error.
    """
    size = n + d + 2
    points = [node(-m.cos(m.pi * (2 * i + 1) / (2 * size))) for i in range(size)]
    grid = [node(-m.cos(m.pi * i / (60 * size))) for i in range(60 * size + 1)]
    table = [(x, f(x), w(x)) for x in grid]
    q = [mpf(1)]
    best = None
    for _ in range(rounds):
        for _ in range(8 if d else 1):
            a, b = m.matrix(size, size), m.matrix(size, 1)
            for i, x in enumerate(points):
                b[i] = f(x)
                for j in range(n + 1):
                    a[i, j] = x**j
                for j in range(1, d + 1):
                    a[i, n + j] = -b[i] * x**j
                a[i, size - 1] = (-1) ** i * evaluate(q, x) / w(x)
            c = m.lu_solve(a, b)
            q = [mpf(1)] + [c[n + j] for j in range(1, d + 1)]
        p = [c[j] for j in range(n + 1)]
        error = [wx * (fx - evaluate(p, x) / evaluate(q, x)) for x, fx, wx in table]
        worst = max(abs(e) for e in error)
        if best is None or worst < best[2]:
            best = (p, q, worst)
        extrema, k = [], 0
        while k < len(error):  # the largest error of each run of one sign
            positive, top = error[k] > 0, k
            while k < len(error) and (error[k] > 0) == positive:
                top = k if abs(error[k]) > abs(error[top]) else top
                k += 1
            extrema.append(top)
        while len(extrema) > size:
            extrema.pop(0 if abs(error[extrema[0]]) < abs(error[extrema[-1]]) else -1)
        if len(extrema) < size:
            raise ArithmeticError("the error stopped alternating")
        points = [grid[k] for k in extrema]
        if worst < abs(c[size - 1]) * mpf("1.01"):
            break
    return best


def linear(lo, hi):
    lo, hi = mpf(lo), mpf(hi)
    return lambda t: (lo + hi) / 2 + (hi - lo) / 2 * t


def stretched(hi, scale=3):  # [0, hi], most points near 0
    hi, scale = mpf(hi), mpf(scale)
    end = (hi - scale) / (hi + scale)

    def node(t):
        s = -1 + (1 + t) * (end + 1) / 2
        return scale * (1 + s) / (1 - s)

    return node


LN2_HALF = m.log(2) / 2 * mpf("1.001")
QUADRANT = (m.pi / 4 * mpf("1.0001")) ** 2
SPLIT = {"double": mpf("1.375"), "float": mpf("1.25")}  # erf: from its odd series to 1 - exp(-...)

# normal_tail = p/q tends to 1/(sqrt(2 pi) a). With q = 2.5 a p + rest, where rest is small for
# large a, what p loses to rounding cancels in the quotient.
TAIL_SLOPE = 2.5


def table(scalar):
    """Rows of name, comment, function, weight, node, degrees of numerator and denominator."""
    double = scalar == "double"
    split = SPLIT[scalar]
    erf_end, tail_end = ("5.95", "39") if double else ("3.95", "14.7")
    exp_interval = linear(-LN2_HALF, LN2_HALF)

    def degree(for_double, for_float):
        return for_double if double else for_float

    return [
        ("expm1", "expm1(r) = r + r^2 q(r), |r| <= log(2)/2",
         expm1_part, off_zero(expm1_weight, 0.03), exp_interval, degree(9, 4), 0),
        ("log1p", "2 atanh(s) = 2 s + s z p(z), z = s^2 <= 1/9",
         log1p_part, off_zero(log1p_weight, 0.003), linear(0, mpf(1) / 9), degree(9, 3), 0),
        ("sin", "sin(r) = r + r z p(z), z = r^2, |r| <= pi/4",
         sin_part, off_zero(sin_weight, 0.01), linear(0, QUADRANT), degree(6, 3), 0),
        ("cos", "cos(r) = 1 + z p(z), z = r^2, |r| <= pi/4",
         cos_part, off_zero(cos_weight, 0.01), linear(0, QUADRANT), degree(6, 3), 0),
        ("erf_small", f"erf(a) = a + a p(a^2), a <= {m.nstr(split, 5)}",
         erf_small, erf_small_weight, linear(0, split**2), degree(13, 6), 0),
        ("erf_large", f"erfc(a) = exp(-(a + a p(a))), {m.nstr(split, 5)} <= a <= {erf_end}",
         erf_large, erf_large_weight, linear(split, erf_end), degree(13, 6), 0),
        ("normal_tail", f"Q(a) = exp(-a^2/2) p(a)/q(a), a <= {tail_end}",
         normal_tail, lambda a: 1 / normal_tail(a), stretched(tail_end),
         degree(10, 4), degree(11, 5)),
    ]  # fmt: skip


def literal(x, scalar):
    if scalar == "float":
        value = struct.unpack("f", struct.pack("f", float(x)))[0]
        text = f"{value:.9g}".replace("e-0", "e-")
        return text + ("f" if "." in text or "e" in text else ".0f")
    return repr(float(x))


def array(name, c, scalar):
    items = [literal(x, scalar) for x in c]
    text = f"  static constexpr {scalar} {name}[] = {{" + ", ".join(items) + "};"
    if len(text) <= 120:
        return text + "\n"
    lines, line = [], f"  static constexpr {scalar} {name}[] = {{"
    for i, item in enumerate(items):
        piece = item + ("," if i + 1 < len(items) else "};")
        if len(line) + len(piece) + 1 > 118:
            lines.append(line)
            line = "     "
        line += ("" if line.endswith("{") else " ") + piece
    return "\n".join([*lines, line]) + "\n"


def block(log):
    text = BEGIN + "template <class T> struct Coefficients;\n"
    for scalar in ("double", "float"):
        text += f"template <> struct Coefficients<{scalar}> {{\n"
        text += f"  static constexpr {scalar} erf_split = {literal(SPLIT[scalar], scalar)};\n"
        for name, comment, f, w, node, n, d in table(scalar):
            p, q, error = remez(f, w, node, n, d)
            log(f"{scalar:7}{name:12} degree {n}/{d}  error {m.nstr(error, 3)}")
            text += f"  // {comment}; error {m.nstr(error, 2)}\n"
            text += array(name, p, scalar)
            if d:
                text += f"  // q(a) = {TAIL_SLOPE} a p(a) + rest(a)\n"
                q = [a - mpf(TAIL_SLOPE) * b for a, b in zip(q, [0, *p], strict=True)]
                text += array(name + "_rest", q, scalar)
        text += "};\n"
    return text + END


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--write", action="store_true")
    mode.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = block(lambda line: print(line, file=sys.stderr))
    if not (arguments.write or arguments.check):
        print(text, end="")
        return 0
    header = HEADER.read_text()
    head, rest = header.split(BEGIN)
    tail = rest.split(END)[1]
    if arguments.check:
        return 0 if header == head + text + tail else 1
    HEADER.write_text(head + text + tail)
    return 0


if __name__ == "__main__":
    sys.exit(main())
