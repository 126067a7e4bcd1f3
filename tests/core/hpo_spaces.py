"""Spaces of every kind, for hypothesis."""

from hypothesis import strategies as st

from autotunenet import Categorical, Float, Int, Ordinal, SearchSpace

VALUES = st.lists(st.integers(-5, 50), min_size=2, max_size=5, unique=True).map(sorted)
DIMENSIONS = st.one_of(
    st.builds(lambda low, width: Int(low, low + width), st.integers(-3, 3), st.integers(1, 30)),
    st.builds(lambda low, width: Int(low, low + width, log=True), st.integers(1, 5), st.integers(1, 900)),
    st.builds(Ordinal, VALUES),
    st.sampled_from([Categorical("ab"), Categorical(("x", "y", "z"))]),
    st.sampled_from([Float(-2.0, 3.0), Float(1e-6, 1.0, log=True)]),
)


@st.composite
def spaces(draw, max_dims=4):
    return SearchSpace({f"d{i}": draw(DIMENSIONS) for i in range(draw(st.integers(1, max_dims)))})
