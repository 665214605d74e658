import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ecpolicy.random import Stream, environment_seed, fold_in, key_from_seed, threefry2x32, uniform
from probes import SEED


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known-answer vectors of Random123 for threefry2x32 with 20 rounds
        ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(counter, key, expected):
    assert tuple(int(x) for x in threefry2x32(np.array(key, np.uint32), counter)) == expected


def test_equals_jax():
    generator = np.random.default_rng(SEED)
    key = generator.integers(2**32, size=2, dtype=np.uint32)
    counter = generator.integers(2**32, size=(2, 1000), dtype=np.uint32)
    ours = np.concatenate(threefry2x32(key, (counter[0], counter[1])))
    theirs = jax.extend.random.threefry_2x32(jnp.asarray(key), jnp.asarray(counter.reshape(-1)))
    np.testing.assert_array_equal(ours, np.asarray(theirs))


def test_keys_of_seeds_members_and_streams_differ():
    seeds = [0, 1, 2**32, 2**64 - 1]
    keys = [fold_in(fold_in(key_from_seed(s), np.arange(500)), stream) for s in seeds for stream in Stream]
    assert len(np.unique(np.concatenate(keys), axis=0)) == len(seeds) * len(Stream) * 500


def test_fold_in_broadcasts_and_is_elementwise():
    keys = fold_in(key_from_seed(SEED + 7), np.arange(6)).reshape(2, 3, 2)
    many = fold_in(keys, np.arange(3))
    np.testing.assert_array_equal(many[1, 2], fold_in(keys[1, 2], 2))


def test_uniform_is_uniform_in_the_half_open_interval():
    values = uniform(key_from_seed(SEED + 3), 20_000)
    assert values.dtype == np.float32
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_environment_seeds_are_valid_for_reset():
    seeds = environment_seed(fold_in(key_from_seed(SEED), np.arange(1000)))
    assert seeds.dtype == np.int64
    assert seeds.min() >= 0
    assert seeds.max() < 2**31
    assert len(np.unique(seeds)) == 1000
