"""Words and their ids, and batches of texts of like length."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autotunenet_bench.data import TensorBatches, as_tensor_batches
from autotunenet_bench.data.text_batches import POOL, TextBatches
from autotunenet_bench.data.vocabulary import Vocabulary, words_of

# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A film<br /><br/>I like", ["a", "film", "i", "like"]),
        ("don't DON\u2019T 'quoted' rock'n'roll", ["don't", "don't", "quoted", "rock'n'roll"]),
        ("snake_case, 7/10... 3.5", ["snake", "case", "7", "10", "3", "5"]),
        ("Très bien — Ünder", ["très", "bien", "ünder"]),
        ("x < y > z <brave>", ["x", "y", "z", "brave"]),
        ("?! ...", []),
    ],
)
def test_words_are_lower_case_runs_of_letters_and_digits(text, words):
    assert words_of(text) == words


def test_the_most_frequent_words_come_first_and_of_equals_the_first_in_the_alphabet():
    texts = ["b b c c a", "d a zz zz zz"]
    assert Vocabulary.of(texts, 7).words == ("zz", "a", "b", "c", "d")
    assert Vocabulary.of(reversed(texts), 7) == Vocabulary.of(texts, 7)
    assert Vocabulary.of(texts, 4).words == ("zz", "a")
    assert Vocabulary.of(texts, 7, min_count=2).words == ("zz", "a", "b", "c")
    with pytest.raises(ValueError, match="at least the ids of padding and of unknown words, 2; got size 1"):
        Vocabulary.of(texts, 1)


@given(st.lists(st.text(alphabet="ab '<>.", max_size=30), min_size=1, max_size=8), st.integers(1, 12))
def test_ids_are_the_first_words_and_then_padding(texts, length):
    vocabulary = Vocabulary.of(texts[:2], 5)
    ids = vocabulary.encode(texts, length)
    assert (ids.shape, ids.dtype) == ((len(texts), length), np.int32)
    known = ("<pad>", None, *vocabulary.words)
    for text, row in zip(texts, ids, strict=True):
        words = words_of(text)[:length] or [None]
        assert [known[i] for i in row[: len(words)]] == [w if w in vocabulary.words else None for w in words]
        assert not row[len(words) :].any()


# -- batches ---------------------------------------------------------------------------------------------------------


def make_batches(n=503, longest=90, batch_size=4, seed=3):
    lengths = np.random.default_rng(0).integers(1, longest + 1, n)
    ids = torch.zeros(n, longest, dtype=torch.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = 1 + torch.arange(length) % 9
    return TextBatches(ids, torch.arange(n), batch_size, seed)


def contents(batches, epoch):
    return [(inputs.tolist(), targets.tolist()) for inputs, targets in batches.epoch(epoch)]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("n", [1, 4, 203, 503])
def test_every_text_comes_once_an_epoch_whole_and_with_its_own_target(seed, n):
    batches = make_batches(n=n, seed=seed)
    drawn = list(batches.epoch(2))
    assert len(drawn) == len(batches)
    assert sorted(torch.cat([targets for _, targets in drawn]).tolist()) == list(range(n))
    assert sorted(len(targets) for _, targets in drawn)[1:] == [4] * (len(drawn) - 1)
    for inputs, targets in drawn:
        assert torch.equal(batches.inputs[targets, : inputs.shape[1]], inputs)
        assert not batches.inputs[targets, inputs.shape[1] :].any()


def test_batches_end_where_their_longest_text_does_rounded_up():
    batches = make_batches()
    for inputs, targets in batches.epoch(1):
        longest = int(batches.lengths[targets].max())
        assert inputs.shape[1] == min(90, -(-longest // 16) * 16)


def test_texts_of_like_length_come_together():
    batches = make_batches(n=4000)

    def padding(stream):
        return sum(int((inputs == 0).sum()) for inputs, _ in stream) / int((batches.inputs != 0).sum())

    by_chance = [batches.inputs[i : i + 4] for i in range(0, 4000, 4)]
    wasted = sum(int((b[:, : int((b != 0).sum(1).max())] == 0).sum()) for b in by_chance)
    assert padding(batches.epoch(1)) < 0.25  # of which the rounding up makes 0.18
    assert wasted / int((batches.inputs != 0).sum()) > 0.5


def test_an_epoch_is_the_same_whatever_was_drawn_before_and_epochs_and_seeds_have_their_own():
    expected = contents(make_batches(), 7)
    batches = make_batches()
    next(batches.epoch(2))
    assert contents(batches, 7) == contents(batches, 7) == expected
    assert len({repr(contents(make_batches(seed=seed), epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_short_and_long_batches_take_turns_at_random():
    lengths = [inputs.shape[1] for inputs, _ in make_batches(n=4 * POOL).epoch(1)]
    assert lengths != sorted(lengths)
    assert lengths != sorted(lengths, reverse=True)


def test_without_a_seed_texts_come_by_length_and_equals_in_their_order():
    batches = make_batches(seed=None)
    order = torch.cat([targets for _, targets in batches.epoch(1)]).tolist()
    assert order == sorted(range(503), key=lambda i: (int(batches.lengths[i]), i))


def test_the_other_uses_of_batches_keep_their_kind():
    batches = as_tensor_batches(make_batches(seed=None), "a test")
    assert isinstance(batches, TensorBatches)
    shifted = batches.with_tensors(inputs=batches.inputs.flip(0), targets=batches.targets.flip(0)).shuffled(5)
    assert isinstance(shifted, TextBatches)
    assert isinstance(shifted.pristine, TextBatches)
    assert contents(shifted.pristine, 1) == contents(make_batches(seed=5), 1)
    assert torch.equal(shifted.lengths, batches.lengths.flip(0))
    noisy = batches.with_tensors(targets=batches.targets + 1000).shuffled(5)
    assert [(ids, [t - 1000 for t in targets]) for ids, targets in contents(noisy, 4)] == contents(
        make_batches(seed=5), 4
    )


def test_batches_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    contents(make_batches(), 1)
    assert torch.equal(torch.get_rng_state(), before)
