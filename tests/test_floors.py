"""The house has floors, and imports only go down."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import surefoot

FLOORS = {
    0: (
        "policy arithmetic checks changes direction improvement evidence greedy greedy_runner plateau hypergradient timed "
        "waves combine runner hold_all spelling checkpoint budget running_mean range_seen whole"
    ),
    1: (
        "spec history problems fleet memory numbers features control perceptron policy_file learned episodes loop "
        "measured runs stats nmf batches recipes r_objects packed keeping under_way"
    ),
    2: (
        "data texts ratings first_steps torch transformers device snapshot rollback ranks alignment averaged moments "
        "hypergradient_descent momo backtracking models networks stacked zoo tasks gym sb3 sklearn hf evaluated "
        "accelerate lightning skorch ignite optax keras vega document drawing plots range_plot put_back rate_finder "
        "epoch_file"
    ),
    3: "engine learn",
    4: (
        "loss_log tensorboard_log replay contest course insight cards catalogue lineup crews compare curves pictures "
        "appended report tables terminal event_log standing telling running verify judge cli __main__"
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


HEAVY = (
    "numpy torch jax optax keras flax equinox sklearn transformers accelerate lightning skorch ignite typer rich vl_convert "
    "gymnasium stable_baselines3 ray psutil polars scipy tensorboard"
)


def in_a_new_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_surefoot_imports_no_framework():
    assert in_a_new_process(f"import sys, surefoot; print([name for name in {HEAVY.split()} if name in sys.modules])") == "[]"


def test_importing_surefoot_takes_less_than_a_tenth_of_a_second():
    code = "from time import process_time as now; began = now(); import surefoot; print(now() - began)"
    assert min(float(in_a_new_process(code)) for _ in range(3)) < 0.1


def test_every_public_name_is_there_and_no_other():
    assert {name for name in surefoot.__all__ if not hasattr(surefoot, name)} == set()
    assert set(surefoot.__all__) <= set(dir(surefoot))
    with pytest.raises(AttributeError, match="module 'surefoot' has no attribute 'Gredy'"):
        surefoot.Gredy  # noqa: B018 - to be asked for is all that it is for


def test_the_names_that_a_type_checker_sees_are_those_that_are_found_when_asked_for():
    tree = ast.parse((HOUSE / "__init__.py").read_text())
    seen = {alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {name: f"surefoot.{room}" for name, room in surefoot._ROOM.items()}.items() <= seen.items()
    assert set(surefoot._ROOM) | {"__version__"} == set(surefoot.__all__)
