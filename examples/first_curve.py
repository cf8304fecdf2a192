"""A first curve: test error against the number of samples, theory over simulated networks."""

import sys

import numpy as np
from matplotlib.figure import Figure

import srfx

model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.9)
alpha = np.linspace(0.2, 3, 60)
d = 300

theory = srfx.solve(model, alpha=alpha, lam=0.1, d=d)
ds = srfx.simulate(model, alpha=[0.5, 1, 1.5, 2, 3], lam=0.1, d=d, replicates=8)
mean, error = srfx.simulation.mean(ds), srfx.simulation.standard_error(ds)

figure = Figure(layout="constrained")
ax = srfx.plot.learning_curve(theory, ax=figure.add_subplot())
ax.errorbar(
    ds.alpha,
    mean.test_error.squeeze(),
    yerr=error.test_error.squeeze(),
    fmt="o",
    label=f"simulation, d = {d}, standard error of 8",
)
ax.legend()
out = sys.argv[1] if len(sys.argv) > 1 else "first_curve.png"
figure.savefig(out)

expected = srfx.solve(model, alpha=ds.alpha.values, lam=0.1, d=d).test_error
off = np.abs(mean.test_error.values[:, 0] - expected) / error.test_error.values[:, 0]
print(f"wrote {out}; simulation and theory differ by at most {off.max():.1f} standard errors")
