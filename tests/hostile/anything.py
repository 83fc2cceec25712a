"""What a reader is tried with: anything at all, and what looks nearly right."""

from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st

# without shrinking, which takes minutes: what fails is told as it came
some = settings(max_examples=50, derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate])
FALSY = st.sampled_from([False, 0, "", 0.0])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def shaped(pattern: str) -> st.SearchStrategy[str]:
    """Anything, and what looks right."""
    return st.text(max_size=40) | st.from_regex(pattern) | st.from_regex(pattern, fullmatch=True)
