"""Write the stub of the extension, python/srfx/_core/__init__.pyi; with --check, compare it."""

import argparse
import difflib
import subprocess
import sys
import tempfile
from pathlib import Path

STUB = Path(__file__).parents[2] / "python" / "srfx" / "_core" / "__init__.pyi"


def generate() -> str:
    """Return the stub of the installed srfx._core."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pybind11_stubgen", "srfx._core", "-o", folder]
        subprocess.run(command, check=True, cwd=folder)
        text = (Path(folder) / "srfx" / "_core.pyi").read_text()
    text = text.replace(" -> dict:", " -> dict[str, typing.Any]:")
    text = text.replace(" -> list:", " -> list[typing.Any]:")
    return text.replace(" -> tuple:", " -> tuple[typing.Any, ...]:")


def main() -> int:
    """Write or check the stub."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    new = generate()
    if not check:
        STUB.write_text(new)
        return 0
    old = STUB.read_text() if STUB.exists() else ""
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), STUB.name, "generated")
    sys.stdout.writelines(lines)
    return int(old != new)


if __name__ == "__main__":
    sys.exit(main())
