import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from ecpolicy.files.spaces import space_from_json, space_to_json
from ecpolicy.spaces import (
    action_decoder,
    action_outputs,
    batch_length,
    check_spaces,
    encode_batch,
    interchangeable,
    observation_encoder,
    observation_size,
)

OBSERVATIONS = {
    "box": spaces.Box(-1, 1, (3,), np.float32),
    "image": spaces.Box(0, 255, (4, 5, 3), np.uint8),
    "scalar": spaces.Box(-np.inf, np.inf, (), np.float64),
    "discrete": spaces.Discrete(5, start=-2),
    "multidiscrete": spaces.MultiDiscrete([2, 3, 4], start=[1, 0, -1]),
    "multidiscrete grid": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "multibinary": spaces.MultiBinary((2, 3)),
    "dict": spaces.Dict({"z": spaces.Box(-1, 1, (2,)), "a": spaces.Discrete(3)}),
    "tuple": spaces.Tuple([spaces.Discrete(2), spaces.Box(0, np.inf, (2, 2), np.float64)]),
    "nested": spaces.Dict({"x": spaces.Tuple([spaces.MultiBinary(2), spaces.Dict({"y": spaces.Discrete(4)})])}),
    "text": spaces.Text(4, charset="cab"),
    "named": spaces.Dict({"name": spaces.Text(2, charset="ab"), "x": spaces.Box(-1, 1, (2,))}),
    "one of": spaces.OneOf([spaces.Discrete(2), spaces.Box(-1, 1, (2,))]),
}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_are_flattened_as_gymnasium_does(name):
    space = OBSERVATIONS[name]
    space.seed(0)
    encode = observation_encoder(space)
    for _ in range(20):
        observation = space.sample()
        flat = encode(observation)
        assert flat.shape == (observation_size(space),)
        np.testing.assert_array_equal(flat, spaces.flatten(space, observation))


@pytest.mark.parametrize("name", OBSERVATIONS)
@pytest.mark.parametrize("n", [1, 3])
def test_batches_are_recognised_and_flattened(name, n):
    space = OBSERVATIONS[name]
    batched = gym.vector.utils.batch_space(space, n)
    batched.seed(0)
    batch = batched.sample()
    singles = list(gym.vector.utils.iterate(batched, batch))
    assert batch_length(space, batch) == n
    assert batch_length(space, singles[0]) is None
    np.testing.assert_array_equal(encode_batch(space, batch), [spaces.flatten(space, one) for one in singles])


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (OBSERVATIONS["box"], np.zeros(4)),
        (OBSERVATIONS["box"], np.zeros((2, 2, 3))),
        (OBSERVATIONS["dict"], {"z": np.zeros(2)}),
        (OBSERVATIONS["dict"], np.zeros(2)),
        (OBSERVATIONS["tuple"], (0,)),
        (OBSERVATIONS["dict"], {"z": np.zeros(5000), "a": 0}),
        (OBSERVATIONS["box"], np.zeros((0, 3))),
    ],
)
def test_wrong_shapes_are_named(space, observation):
    with pytest.raises(ValueError, match="Got an observation"):
        batch_length(space, observation)
    with pytest.raises(ValueError, match="Got an observation"):
        observation_encoder(space)(observation)


def test_half_batches_and_impossible_choices_are_refused():
    space = OBSERVATIONS["dict"]
    with pytest.raises(ValueError, match="share one batch length"):
        batch_length(space, {"z": np.zeros((3, 2)), "a": 1})
    with pytest.raises(ValueError, match="share one batch length"):
        batch_length(space, {"z": np.zeros((3, 2)), "a": np.zeros(4, int)})
    for bad in ({"z": np.zeros(2), "a": -1}, {"z": np.zeros(2), "a": 3}):
        with pytest.raises(ValueError, match="does not contain"):
            observation_encoder(space)(bad)


def test_boxes_clip_and_scale():
    space = spaces.Box(np.array([-2, 0, -np.inf, 1], np.float32), np.array([2, 10, np.inf, np.inf], np.float32))
    output = np.array([[0.5, 0.5, 7.5, 0.5], [3, -3, -7.5, 2]], np.float32)
    actions = action_decoder(space)(output)
    np.testing.assert_allclose(actions, [[1, 7.5, 7.5, 1], [2, 0, -7.5, 2]])
    assert all(space.contains(action) for action in actions)


@pytest.mark.parametrize(
    ("space", "output", "expected"),
    [
        (spaces.Box(-1, 1, (2, 1), np.float64), [[0.25, -9]], [[[0.25], [-1]]]),
        (spaces.Box(0, 255, (2,), np.uint8), [[-1, 0.01]], [[0, 129]]),
        (spaces.Box(0, 1, (4,), np.bool_), [[-1, -0.5, 0.5, 1]], [[0, 0, 1, 1]]),
        (spaces.Discrete(3, start=5), [[0, 2, 1], [0, 0, 0]], [6, 5]),
        (spaces.MultiDiscrete([2, 3], start=[1, 0]), [[0, 1, 5, 4, 6]], [[2, 2]]),
        (spaces.MultiBinary(3), [[-1, 0, 0.1]], [[0, 0, 1]]),
    ],
)
def test_actions(space, output, expected):
    output = np.array(output, np.float32)
    assert action_outputs(space) == output.shape[1]
    actions = action_decoder(space)(output)
    np.testing.assert_array_equal(actions, expected)
    assert all(space.contains(action) for action in actions)


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(4, start=1), spaces.MultiDiscrete([[2, 3], [4, 2]]), spaces.MultiBinary((2, 2)),
     spaces.Box(-3, 1, (2, 2)), spaces.Box(-5, 5, (3,), np.int64), spaces.Box(-1e30, 1e30, (1,), np.float64),
     spaces.Box(-np.inf, np.inf, (2,), np.int64), spaces.Box(0, np.iinfo(np.int64).max, (2,), np.int64),
     spaces.Box(-np.inf, np.inf, (2,), np.int32), spaces.Box(-1e300, 1e300, (2,), np.float64),
     spaces.Discrete(3, dtype=np.uint8), spaces.MultiDiscrete([2, 3], dtype=np.uint64)],
)  # fmt: skip
def test_any_output_gives_a_valid_action(space):
    outputs = np.random.default_rng(0).normal(0, 3, (200, action_outputs(space))).astype(np.float32)
    assert all(space.contains(action) for action in action_decoder(space)(outputs))


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (spaces.Sequence(spaces.Discrete(2)), spaces.Discrete(2), "cannot be flattened"),
        (spaces.Box(-1, 1, (0,)), spaces.Discrete(2), "no number to observe"),
        (spaces.Tuple([spaces.MultiDiscrete([2], dtype=np.uint64)]), spaces.Discrete(2), "64-bit unsigned"),
        (spaces.Discrete(2), spaces.Tuple([spaces.Discrete(2)]), "action space .* is not supported"),
        (spaces.Discrete(2), spaces.Dict({"a": spaces.Discrete(2)}), "wanted Box, Discrete"),
        (spaces.Discrete(2), spaces.Box(-1, 1, (0,)), "not empty"),
    ],
)
def test_unusable_spaces_are_refused(observation, action, message):
    with pytest.raises(ValueError, match=message):
        check_spaces(observation, action)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_spaces_survive_json(name):
    space = OBSERVATIONS[name]
    again = space_from_json(space_to_json(space))
    assert again == space
    space.seed(0)
    for _ in range(5):
        observation = space.sample()
        np.testing.assert_array_equal(spaces.flatten(again, observation), spaces.flatten(space, observation))


def test_uneven_bounds_survive_json():
    space = spaces.Box(np.array([-np.inf, 0.1, -3]), np.array([1e300, np.inf, 0.2]), dtype=np.float64)
    assert space_from_json(space_to_json(space)) == space


def test_boxes_that_differ_in_precision_alone_are_interchangeable():
    box = gym.spaces.Box(-0.4, 0.4, (3,), np.float32)
    assert interchangeable(box, gym.spaces.Box(-0.4, 0.4, (3,), np.float64))
    assert not interchangeable(box, gym.spaces.Box(-0.5, 0.4, (3,), np.float64))
    assert not interchangeable(box, gym.spaces.Box(-0.4, 0.4, (4,), np.float32))
    assert not interchangeable(gym.spaces.Box(0, 1, (3,), np.float32), gym.spaces.Box(0, 1, (3,), np.int64))
    assert interchangeable(gym.spaces.Discrete(3), gym.spaces.Discrete(3))
    assert not interchangeable(gym.spaces.Discrete(3), gym.spaces.Discrete(4))
    assert not interchangeable(gym.spaces.Discrete(3), box)
    largest = np.finfo(np.float64).max
    unbounded = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    assert interchangeable(gym.spaces.Box(-largest, largest, (1,), np.float64), unbounded)
