#!/usr/bin/env bash
# zarr 3.1.6: under `python -O` a group inside a group can be opened by its path, but not from its
# parent, and the parent cannot be listed or consolidated.
#
# A good guess: -O leaves out assertions, which check and do nothing else. A store that one program
#   writes and reads is read the same with it.
# What happens: zarr takes the entry `node_type` out of a group's metadata inside an assertion. Left
#   in, it is an argument that the class does not have. Creating and writing work, and so does
#   opening by the path, which goes another way.
# Why it matters: a long job under -O writes a store of nested groups to its end, and the last line,
#   which consolidates the metadata, is the one that fails.
#
# Output seen:
#   python: runs/error (2,); parent['runs']: Group; members: ['runs']; consolidated: ['runs', 'runs/error']
#   python -O: runs/error (2,); parent['runs']: TypeError; members: TypeError; consolidated: TypeError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet zarr==3.1.6
cd "$work"
cat > nested.py <<'PY'
import sys

import zarr

store = sys.argv[1]
parent = zarr.open_group(store, mode="w", zarr_format=3)
parent.create_group("runs").create_array("error", shape=(2,), dtype="float64")


def tried(work):
    try:
        return work()
    except TypeError as error:
        assert_in("unexpected keyword argument 'node_type'", str(error))
        return "TypeError"


def assert_in(part, whole):  # no assertion: -O leaves those out
    if part not in whole:
        raise ValueError(whole)


parent = zarr.open_group(store, mode="r")
by_path = zarr.open_group(store, path="runs", mode="r")["error"].shape
from_parent = tried(lambda: type(parent["runs"]).__name__)
listed = tried(lambda: sorted(dict(parent.members())))


def consolidated():
    whole = zarr.consolidate_metadata(store)
    return sorted(whole.metadata.consolidated_metadata.flattened_metadata)


name = "python -O" if sys.flags.optimize else "python"
print(
    f"{name}: runs/error {by_path}; parent['runs']: {from_parent}; members: {listed}; "
    f"consolidated: {tried(consolidated)}"
)
PY
"$work/venv/bin/python" -I -W ignore nested.py one.zarr | tee said
"$work/venv/bin/python" -I -W ignore -O nested.py two.zarr | tee -a said
diff said - <<'SEEN'
python: runs/error (2,); parent['runs']: Group; members: ['runs']; consolidated: ['runs', 'runs/error']
python -O: runs/error (2,); parent['runs']: TypeError; members: TypeError; consolidated: TypeError
SEEN
