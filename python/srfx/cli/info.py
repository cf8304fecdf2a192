"""``srfx info``: how this srfx was built."""

from __future__ import annotations

import click

from srfx.config import show_config
from srfx.models import ACTIVATION_NAMES


@click.command("info")
def command() -> None:
    """Show how this srfx was built, and the activations it knows."""
    show_config()
    click.echo(f"activations      {', '.join(ACTIVATION_NAMES)}")
