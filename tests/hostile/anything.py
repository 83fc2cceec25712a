"""What a reader is tried with: anything at all, and what looks nearly right. The same each time, or as MAILLON_FUZZ_SEED draws it: CI has another each day."""

import os
from typing import Any

from hypothesis import Phase, core, settings
from hypothesis import strategies as st

SEED = os.environ.get("MAILLON_FUZZ_SEED")
if SEED is not None:
    core.global_force_seed = int(SEED)  # type: ignore[assignment]  # declared by its default None; as --hypothesis-seed does

# without shrinking, which takes minutes: what fails first is told as it came
some = settings(
    max_examples=50,
    derandomize=SEED is None,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)
FALSY = st.sampled_from([False, 0, "", 0.0])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def shaped(pattern: str) -> st.SearchStrategy[str]:
    """Anything, and what looks right."""
    return st.text(max_size=40) | st.from_regex(pattern) | st.from_regex(pattern, fullmatch=True)
