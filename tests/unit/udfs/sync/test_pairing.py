from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.udfs.sync.oracles import HIGH, LOW, held, held_event, paired, windowed
from udfs.sync.limits import NO_LIMIT, NOWHERE, Boundaries, Limits
from udfs.sync.pairing import first_descent, pair_events, pair_samples, use_once
from udfs.sync.states import STATES
from udfs.sync.windows import find_windows, slide_integers, slide_numbers

METHODS = ("nearest", "last", "next", "between")
TIMES = st.one_of(st.integers(-30, 30), st.sampled_from([LOW, LOW + 1, -1, 0, HIGH - 1, HIGH]))
LIMIT = st.one_of(st.just(NO_LIMIT), st.integers(0, 20))
LIMITS = st.builds(Limits, LIMIT, LIMIT, LIMIT, st.integers(0, 20), st.booleans())


AT_FIVE = (Boundaries.of(jumps_ns=[5]), [(5, "jump")])


def sorted_times(most):
    """Times in order, ties and extremes among them."""
    return st.lists(TIMES, max_size=most).map(sorted)


@st.composite
def boundaries(draw):
    """Jumps and gaps, as the kernels and as the oracle take them."""
    jumps, gaps = draw(st.lists(TIMES, max_size=3)), draw(st.lists(TIMES, max_size=2))
    made = Boundaries.of(jumps_ns=jumps, gaps_ns=gaps)
    plain = [(t, "jump" if t in jumps else "gap") for t in sorted({*jumps, *gaps}) if t > LOW]
    assert made.t_ns.tolist() == [t for t, _ in plain]
    return made, plain


def int64(values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("method", METHODS)
@given(samples=sorted_times(12), at=st.lists(TIMES, max_size=12), limits=LIMITS, cuts=boundaries())
@example(samples=[LOW, HIGH], at=[LOW, -1, 0, HIGH], limits=Limits(), cuts=(NOWHERE, []))
@example(
    samples=[5], at=[4, 5, 6], limits=Limits(), cuts=(Boundaries.of(jumps_ns=[5]), [(5, "jump")])
)
def test_every_pair_is_what_plain_words_say(method, samples, at, limits, cuts):
    """Ties, repeats, no or one sample, the ends of int64, boundaries on samples: one oracle."""
    found = pair_samples(
        int64(at), int64(samples), method=method, limits=limits, boundaries=cuts[0]
    )
    wanted = [paired(instant, samples, method, limits, cuts[1]) for instant in at]
    index = [-1 if each is None else each for each, *_ in wanted]
    assert found.index.tolist() == index
    assert found.distance_ns.tolist() == [distance for _, distance, *_ in wanted]
    assert found.t_ns.tolist() == [samples[each] if each >= 0 else 0 for each in index]
    assert [STATES[code] for code in found.state] == [state for *_, state, _ in wanted]
    assert found.unknown == index.count(-1)
    if method == "between":
        assert found.share.tolist() == pytest.approx([share for *_, share in wanted], rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", [1, 3, 10, 37, 5000])
def test_long_streams_of_any_density_pair_as_single_instants_do(method, step):
    """The pass over blocks finds what the search for each instant by itself finds."""
    random = np.random.default_rng(step)
    samples = np.sort(random.integers(0, 30_000, 3000)) * 7
    at = np.sort(random.integers(-1000, 215_000, 40_000 // step + 2))
    limits = Limits(tolerance_ns=40, max_age_ns=30, max_gap_ns=90, edge_ns=25)
    cuts = Boundaries.of(jumps_ns=[50_000, 50_007, 120_001])
    found = pair_samples(at, samples, method=method, limits=limits, boundaries=cuts)
    shuffled = random.permutation(len(at))
    other = pair_samples(at[shuffled], samples, method=method, limits=limits, boundaries=cuts)
    names = ("index", "t_ns", "distance_ns", "state", "left", "share")
    for name in names if method == "between" else names[:4]:
        assert np.array_equal(getattr(found, name)[shuffled], getattr(other, name)), name
    assert found.unknown == other.unknown
    after = np.searchsorted(samples, at, side="right" if method == "last" else "left")
    inner = (found.state == 0) & (after > 0) & (after < len(samples))
    if method in ("last", "next"):
        expected = after - (method == "last")
        assert np.array_equal(found.index[inner], expected[inner])
    assert np.array_equal(found.distance_ns[inner], samples[found.index[inner]] - at[inner])


@given(
    begins=sorted_times(10), lengths=st.lists(st.integers(-3, 40), min_size=10, max_size=10),
    at=sorted_times(12), limits=LIMITS, cuts=boundaries(),
)  # fmt: skip
def test_the_event_that_began_last_of_those_that_hold_an_instant(begins, lengths, at, limits, cuts):
    """Nested, overlapping, empty and cut events: what a look at all of them finds."""
    ends = [min(HIGH, t + length) for t, length in zip(begins, lengths, strict=False)]
    ends = [max(LOW, end) for end in ends]
    found = pair_events(int64(at), int64(begins), int64(ends), limits=limits, boundaries=cuts[0])
    wanted = [held_event(instant, begins, ends, limits, cuts[1]) for instant in at]
    assert found.index.tolist() == [-1 if each is None else each for each, _ in wanted]
    assert [STATES[code] for code in found.state] == [state for _, state in wanted]


@given(
    samples=sorted_times(12), at=sorted_times(12), limits=LIMITS, cuts=boundaries(),
    window=st.tuples(st.integers(-5, 25), st.integers(1, 25)), data=st.data(),
)  # fmt: skip
def test_windows_hold_what_lies_in_them_and_come_to_it(samples, at, limits, cuts, window, data):  # noqa: PLR0917
    """Half-open windows on their side of each boundary; sums, least and greatest of them."""
    begins = [held(t - window[0]) for t in at]
    ends = [held(t - window[0] + window[1]) for t in at]
    found = find_windows(
        int64(at), int64(begins), int64(ends), int64(samples), limits=limits, boundaries=cuts[0]
    )
    wanted = [
        windowed(each, samples, limits, cuts[1]) for each in zip(at, begins, ends, strict=True)
    ]
    ranges = zip(found.first.tolist(), found.past.tolist(), strict=True)
    assert [list(range(*each)) for each in ranges] == [indices for indices, _ in wanted]
    assert [STATES[code] for code in found.state] == [state for _, state in wanted]
    one = st.one_of(st.integers(-9, 9).map(float), st.sampled_from([np.nan, np.inf]))
    values = data.draw(st.lists(one, min_size=len(samples), max_size=len(samples)))
    numbers = [[values[i] for i in each if values[i] == values[i]] for each, _ in wanted]
    array = np.array(values, np.float64)
    assert slide_numbers("sum", array, found).tolist() == [sum(each) for each in numbers]
    least = [min(each, default=np.inf) for each in numbers]
    assert slide_numbers("min", array, found).tolist() == least
    whole = int64([hash(value) % 100 for value in samples])
    most = [max((int(whole[i]) for i in each), default=LOW) for each, _ in wanted]
    assert slide_integers("max", whole, found).tolist() == most


def test_windows_wider_than_the_stream_cost_no_more_than_narrow_ones():
    """A sample is met twice, not once for each window that holds it."""
    t_ns = np.arange(200_000, dtype=np.int64)
    found = find_windows(t_ns, t_ns - 100_000, t_ns + 1, t_ns, limits=Limits())
    values = np.ones(len(t_ns))
    assert slide_numbers("sum", values, found).tolist() == (found.past - found.first).tolist()


@given(at=st.lists(st.integers(0, 30), max_size=20), samples=sorted_times(8).filter(len))
def test_a_sample_that_serves_once_serves_the_closest_then_the_first(at, samples):
    """Of the instants that have a sample, one keeps it; the others are stale."""
    found = pair_samples(int64(at), int64(samples), method="nearest", limits=Limits())
    use_once(found, samples=len(samples))
    for index in set(found.index.tolist()):
        users = [i for i in range(len(at)) if found.index[i] == index]
        closest = min(users, key=lambda i: (abs(int(found.distance_ns[i])), i))
        assert [i for i in users if STATES[found.state[i]] == "ok"] == [closest]


@given(st.lists(TIMES, max_size=30))
def test_the_first_descent_is_found(times):
    """Where times do not ascend, the place is named; equal ones do."""
    places = [i for i in range(1, len(times)) if times[i] < times[i - 1]]
    assert first_descent(int64(times)) == (places[0] if places else -1)
