"""The house has floors, and imports only go down."""

import ast
import sys
from pathlib import Path

import pytest

import surefoot

FLOORS = {
    0: (
        "policy arithmetic checks changes direction improvement evidence greedy greedy_runner plateau hypergradient timed waves combine runner "
        "hold_all spelling checkpoint budget"
    ),
    1: (
        "spec history problems fleet memory numbers features control perceptron policy_file learned episodes loop measured runs stats "
        "nmf batches recipes r_objects"
    ),
    2: (
        "data texts ratings first_steps torch transformers device snapshot rollback ranks alignment averaged moments hypergradient_descent "
        "momo backtracking models networks stacked zoo tasks gym sb3 sklearn"
    ),
    3: "learn",
    4: (
        "contest course insight cards catalogue lineup workers compare curves pictures appended document report tables "
        "terminal verify judge cli __main__"
    ),
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()} | {"__init__": 0}
"""The front door, `__init__`, stands on the ground floor, and shows what is on the first as well."""
HOUSE = Path(surefoot.__file__).parent
ROOMS = sorted(".".join(path.relative_to(HOUSE).with_suffix("").parts) for path in HOUSE.rglob("*.py"))


def floor_of(room):
    """A package has one floor: that of `nmf.problem` is that of `nmf`."""
    return FLOOR[room.partition(".")[0]]


def imported(room):
    """Every module that a room imports, at the top or inside a function."""
    for node in ast.walk(ast.parse((HOUSE / room.replace(".", "/")).with_suffix(".py").read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_has_a_floor():
    assert sorted(FLOOR) == sorted({room.partition(".")[0] for room in ROOMS})


@pytest.mark.parametrize("room", ROOMS)
def test_imports_only_go_down(room):
    for name in imported(room):
        first, _, rest = name.partition(".")
        if first == "surefoot":
            other = rest.partition(".")[0]
            other = other if other in FLOOR else "__init__"
            assert FLOOR[other] <= max(floor_of(room), room == "__init__"), f"{room} reaches up to {other}"


@pytest.mark.parametrize("room", [room for room in ROOMS if floor_of(room) == 0])
def test_the_ground_floor_stands_on_the_standard_library_alone(room):
    outside = {name.partition(".")[0] for name in imported(room)} - {"surefoot"}
    assert outside <= sys.stdlib_module_names


@pytest.mark.parametrize("room", [room for room in ROOMS if floor_of(room) == 1])
def test_the_first_floor_adds_numpy_the_array_api_and_safetensors(room):
    outside = {name.partition(".")[0] for name in imported(room)} - {"surefoot"}
    assert outside <= sys.stdlib_module_names | {"numpy", "array_api_compat", "safetensors"}


def test_importing_surefoot_imports_no_framework():
    import subprocess

    heavy = "torch jax sklearn typer vl_convert gymnasium stable_baselines3"
    code = f"import sys, surefoot; print([name for name in {heavy.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
