"""The compiled core: this package becomes the extension for the best set of this processor."""

import importlib
import os
import sys

from srfx import _processor

_set = _processor.choose(os.environ.get("SRFX_ISA"), _processor.lacking())
sys.modules[__name__] = importlib.import_module(f"srfx._core_{_set}")
