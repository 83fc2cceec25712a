"""What the readers are tried with: the same inputs in everybody's `make test`, others with each seed of CI."""

import os
import subprocess
import sys

DRAW = """
from hypothesis import given, strategies as st
from tests.hostile.anything import some
drawn = []

@some
@given(number=st.integers())
def draw(number):
    drawn.append(number)

draw()
print(drawn)
"""


def drawn(**seed: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "MAILLON_FUZZ_SEED"} | seed
    return subprocess.run([sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True, check=True, timeout=300).stdout


def test_a_seed_of_ci_draws_other_inputs_and_draws_them_again() -> None:
    usual, today, tomorrow = drawn(), drawn(MAILLON_FUZZ_SEED="20261201"), drawn(MAILLON_FUZZ_SEED="20261202")

    assert usual.count(",") > 40
    assert len({usual, today, tomorrow}) == 3
    assert drawn(MAILLON_FUZZ_SEED="20261201") == today
    assert drawn() == usual
