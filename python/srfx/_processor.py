"""Which of the extensions that were compiled this processor can run.

The core is compiled whole for each instruction set, as ``srfx._core_v3`` and so on; ``srfx._core``
is the one that is used. ``SRFX_ISA`` in the environment names another.
"""

from srfx import _core_cpu

#: Sets that the core was compiled for, the best first, and what this processor lacks of each.
lacking = _core_cpu.lacking

#: How to install what runs on this processor.
AGAIN = (
    "install it again on this machine, or for all with "
    "pip install --no-cache-dir . -C 'cmake.define.SRFX_ISA=v4;v3;v2'"
)


def choose(wanted: str | None, missing: dict[str, str]) -> str:
    """Return the name of the set to use: the one that is wanted, or the best that can be used.

    `missing` has what the processor lacks of each set that was compiled, the best first. Raises
    ImportError if the set that is wanted cannot be used, or none can.
    """
    built = ", ".join(missing)
    if wanted and wanted not in missing:
        raise ImportError(
            "SRFX_ISA must name an instruction set that this copy of srfx was compiled for, "
            f"{built}; got {wanted!r}"
        )
    for name, features in missing.items():
        if name == wanted and features:
            raise ImportError(
                f"SRFX_ISA is {wanted!r}, an instruction set of which this processor lacks "
                f"{features}"
            )
        if not features and wanted in (None, "", name):
            return name
    raise ImportError(
        f"srfx was compiled for other processors ({built}): this one lacks "
        f"{list(missing.values())[-1]}; {AGAIN}"
    )
