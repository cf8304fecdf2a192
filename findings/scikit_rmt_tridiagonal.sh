#!/usr/bin/env bash
# scikit-rmt 0.5.0: the two ways to sample a Gaussian ensemble have spectra whose scales differ by
# the square root of two.
#
# A good guess: use_tridiagonal=True is a faster way to the same spectrum. The docstring says that
#   the tridiagonal form "has the same eigenvalues than its standard form", and for the Wishart
#   ensembles of the same package the two agree.
# What happens: for the orthogonal and the unitary ensemble (beta 1 and 2) the edge of the
#   tridiagonal form lies at 1/sqrt(2) of that of the standard form. For the symplectic ensemble
#   (beta 4) they agree. The semicircle of the package fits the standard form.
# Why it matters: the tridiagonal form is the one that is quick at large sizes. A spectrum sampled
#   in it is narrower than the semicircle of the same package by the square root of two, and
#   whoever settles the scale with one ensemble has it wrong for another.
#
# Output seen (eigenvalues over sqrt(n)):
#   Gaussian beta 1: semicircle edge 2.00, standard 1.97, tridiagonal 1.40, ratio^2 2.0
#   Gaussian beta 2: semicircle edge 2.83, standard 2.78, tridiagonal 1.99, ratio^2 2.0
#   Gaussian beta 4: semicircle edge 4.00, standard 3.91, tridiagonal 3.97, ratio^2 1.0
#   Wishart beta 1: ratio^2 1.0
#   Wishart beta 2: ratio^2 1.0
#   Wishart beta 4: ratio^2 1.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scikit-rmt==0.5.0 scipy==1.11.4 numpy==1.26.4
cd "$work"
"$work/venv/bin/python" -I - <<'PY'
import numpy as np
from skrmt.ensemble import GaussianEnsemble, WignerSemicircleDistribution, WishartEnsemble

np.random.seed(0)
n = 400
for beta in (1, 2, 4):
    edge = WignerSemicircleDistribution(beta=beta).radius
    forms = [GaussianEnsemble(beta=beta, n=n, use_tridiagonal=form) for form in (False, True)]
    standard, tridiagonal = (form.eigvals()[-1] / np.sqrt(n) for form in forms)
    scale = np.mean(forms[0].eigvals() ** 2) / np.mean(forms[1].eigvals() ** 2)
    print(
        f"Gaussian beta {beta}: semicircle edge {edge:.2f}, standard {standard:.2f},"
        f" tridiagonal {tridiagonal:.2f}, ratio^2 {scale:.1f}"
    )
    factor = 1 if beta == 4 else 2
    assert abs(scale / factor - 1) < 0.05
    assert abs(standard / edge - 1) < 0.05
    assert abs(tridiagonal * np.sqrt(factor) / edge - 1) < 0.05

for beta in (1, 2, 4):
    sizes = {"beta": beta, "p": 200, "n": 400}
    forms = [WishartEnsemble(**sizes, use_tridiagonal=form) for form in (False, True)]
    scale = np.mean(forms[0].eigvals() ** 2) / np.mean(forms[1].eigvals() ** 2)
    print(f"Wishart beta {beta}: ratio^2 {scale:.1f}")
    assert abs(scale - 1) < 0.05
PY
