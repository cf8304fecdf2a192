# mypy: ignore-errors
"""The page of ``srfx explore``, a marimo app: run with ``srfx explore`` or ``marimo run``."""

import marimo

app = marimo.App(width="medium", app_title="srfx: what do gradient steps buy?")


@app.cell
def _():
    import base64
    import html
    import json
    import time

    import marimo as mo

    from srfx.app import view as explore
    from srfx.app.picture import Picture
    from srfx.losses import LABELS, LOSS_NAMES, Huber
    from srfx.models import ACTIVATION_NAMES
    from srfx.targets import TARGET_NAMES

    losses = {name.replace("_", " "): name for name in LOSS_NAMES} | {"Huber(1)": Huber(1)}
    names = {"activation": ACTIVATION_NAMES, "target": TARGET_NAMES, "labels": LABELS}
    return Picture, base64, explore, html, json, losses, mo, names, time


@app.cell
def _(losses, mo, names):
    def slider(label, steps, value):
        return mo.ui.slider(steps=steps, value=value, label=label, show_value=True)

    tens = [round(m * 10.0**e, 6) for e in range(-4, 1) for m in (1, 2, 5)] + [10.0]
    eta = slider("learning rate η", [round(0.1 * i, 1) for i in range(101)], 3.0)
    alpha0 = slider(
        "samples of a step α₀",
        [0, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 100],
        5,
    )
    beta = slider("width β", [0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4, 5], 1)
    lam = slider("ridge penalty λ", tens, 0.1)
    alpha = slider("samples α", [round(0.1 * i, 1) for i in range(1, 51)], 2.0)
    noise = slider("label noise Δ", [round(0.05 * i, 2) for i in range(21)], 0.0)
    smooth = [name for name in names["activation"] if name != "sign"]
    activation = mo.ui.dropdown(smooth, value="tanh", label="activation σ")
    targets = {name: name for name in names["activation"]}
    targets |= {f"{name} of two": name for name in names["target"]}
    target = mo.ui.dropdown(targets, value="sin", label="target σ*")
    steps = mo.ui.dropdown({"1": 1, "2": 2, "3": 3}, value="1", label="gradient steps")
    readout = mo.ui.text("1", label="initial readout values", full_width=False)
    labels = mo.ui.dropdown(names["labels"], value="real", label="labels")
    loss = mo.ui.dropdown(losses, value="square", label="loss of the readout")
    run = mo.ui.run_button(label="Simulate (d = 200, 8 networks)")
    return (
        activation,
        alpha,
        alpha0,
        beta,
        eta,
        labels,
        lam,
        loss,
        noise,
        readout,
        run,
        steps,
        target,
    )


@app.cell
def _(Picture, explore, mo):
    picture, desk = Picture(), explore.Desk()
    last = {"image": ""}
    get_points, set_points = mo.state((None, None))
    return desk, get_points, last, picture, set_points


@app.cell
def _(
    activation, alpha, alpha0, beta, eta, explore, labels, lam, loss, noise, readout, steps, target
):
    try:
        view = explore.View(
            activation.value,
            target.value,
            float(eta.value),
            float(alpha0.value),
            float(beta.value),
            float(lam.value),
            float(alpha.value),
            float(noise.value),
            explore.parse_readout(readout.value),
            steps.value,
            labels.value,
            loss.value,
        )
        view.model  # noqa: B018  (checks the values)
        problem = None
    except (ValueError, TypeError) as error:
        view, problem = None, str(error)
    return problem, view


@app.cell
def _(mo, run, set_points, view):
    if run.value and view is not None:
        with mo.status.spinner(title="simulating"):
            set_points((view.experiment, view.simulate()))
    return


@app.cell
def _(base64, get_points, html, json, last, mo, picture, time):
    def draw(numbers, start):
        """Draw a view, with the points that were simulated for it."""
        experiment, simulated = get_points()
        if experiment != numbers.view.experiment:
            simulated = None
        png = picture.png(numbers, simulated)
        facts = {
            "test_error": numbers.curve.tolist(),
            "finite": numbers.finite.tolist(),
            "here": numbers.here,
            "spectrum": numbers.spectrum is not None,
            "simulated": None
            if simulated is None
            else simulated[numbers.view.quantity].mean("replicate").values[:, 0].tolist(),
            "seconds": time.perf_counter() - start,
        }
        hidden = f"<div id='srfx-data' hidden>{html.escape(json.dumps(facts))}</div>"
        # Within the page: the file that mo.image would serve is gone once the next view is there,
        # which a browser still fetching it takes for an error.
        source = "data:image/png;base64," + base64.b64encode(png).decode()
        last["image"] = f"<img src='{source}' alt='the panels of this view' style='width: 100%'>"
        return mo.Html(last["image"] + hidden)

    def computing():
        """Keep the picture before, as a shadow."""
        return mo.Html(f"<div>computing …</div><div style='opacity: 0.3'>{last['image']}</div>")

    def summarise(numbers):
        if numbers is None:
            return mo.md("")
        at = f"α = {numbers.view.alpha:g}, d = ∞"
        stats = [mo.stat(f"{numbers.here:.4g}", label=f"{numbers.view.name} at {at}")]
        if numbers.view.plain:
            stats += [
                mo.stat(f"{numbers.floor:.4g}", label="linear floor"),
                mo.stat(f"{numbers.lower:.3g} … {numbers.upper:.3g}", label="bounds"),
            ]
        else:
            stats += [
                mo.stat(f"{numbers.loss:.4g}", label="test loss there"),
                mo.stat(f"{numbers.squares:.4g}", label="mean squared error there"),
            ]
        if numbers.spike is not None:
            shown = ", ".join(f"{x:.3f}" for x in numbers.spike)
            stats.append(mo.stat(shown, label="equivalent r, c, γ"))
        return mo.hstack(stats, widths="equal")

    return computing, draw, summarise


@app.cell
def _(
    activation,
    alpha,
    alpha0,
    beta,
    computing,
    desk,
    draw,
    eta,
    explore,
    get_points,
    labels,
    lam,
    loss,
    mo,
    noise,
    problem,
    readout,
    run,
    steps,
    summarise,
    target,
    time,
    view,
):
    def page(shown, numbers):
        code = mo.md("" if numbers is None else f"```python\n{numbers.view.code(numbers)}```")
        return mo.vstack(
            [
                mo.md("## What do gradient steps buy?"),
                mo.hstack(
                    [activation, target, labels, steps, readout, loss, run],
                    justify="start",
                    wrap=True,
                ),
                mo.hstack(
                    [mo.vstack([eta, alpha0, beta]), mo.vstack([lam, alpha, noise])], widths="equal"
                ),
                shown,
                summarise(numbers),
                mo.accordion({"Python code of this view": code}),
            ]
        )

    def show(page, problem, view):
        """Show what is there at once, and the rest when it is there, but for the next view.

        Locals alone, as this goes on while the next view is computed: its names are not these.
        """
        get_points()  # new points are drawn too
        start = time.perf_counter()

        def warned(error):
            return mo.callout(str(error), kind="warn")

        def finish(numbers, pending):
            thread = mo.current_thread()

            def put(shown, numbers):
                if not thread.should_exit:
                    mo.output.replace(page(shown, numbers))

            try:
                if numbers is None:
                    numbers = pending.curves.result()
                    put(draw(numbers, start), numbers)
                numbers = pending.complete(numbers)
                put(draw(numbers, start), numbers)
            except explore.PASSED:
                pass
            except explore.PROBLEMS as error:
                put(warned(error), numbers)

        if view is None:
            mo.output.replace(page(warned(problem), None))
            return
        pending = desk.of(view)
        try:
            numbers = pending.now()
        except explore.PROBLEMS as error:
            mo.output.replace(page(warned(error), None))
            return
        mo.output.replace(page(computing() if numbers is None else draw(numbers, start), numbers))
        if numbers is None or numbers.spectrum is None:
            mo.Thread(target=finish, args=(numbers, pending), daemon=True).start()

    show(page, problem, view)
    return


if __name__ == "__main__":
    app.run()
