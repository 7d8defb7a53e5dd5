"""Which rows make the batch of each step, and how many steps there are."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from finetune.config import TrainConfig
from finetune.schedule import num_epochs, num_steps, plain_schedule


@given(n=st.integers(1, 60), size=st.integers(1, 20), steps=st.integers(1, 40))
def test_max_steps_is_the_number_of_steps_whatever_the_epochs_say(
    n: int, size: int, steps: int
) -> None:
    config = TrainConfig(batch_size=size, max_steps=steps, epochs=0.1)
    assert num_steps(n, config) == len(plain_schedule([1] * n, config)) == steps


@given(n=st.integers(1, 60), size=st.integers(1, 20), epochs=st.integers(1, 4))
def test_max_steps_of_whole_epochs_is_the_schedule_of_those_epochs(
    n: int, size: int, epochs: int
) -> None:
    by_epochs = TrainConfig(batch_size=size, epochs=epochs)
    by_steps = TrainConfig(batch_size=size, max_steps=epochs * math.ceil(n / size))
    lengths = list(range(n))
    assert plain_schedule(lengths, by_steps) == plain_schedule(lengths, by_epochs)
    assert num_epochs(n, by_steps) == num_epochs(n, by_epochs) == epochs


@given(n=st.integers(1, 60), few=st.integers(1, 9), more=st.integers(1, 9))
def test_fewer_steps_are_the_first_of_more(n: int, few: int, more: int) -> None:
    lengths = list(range(n))
    first = plain_schedule(lengths, TrainConfig(batch_size=4, max_steps=few))
    assert first == plain_schedule(lengths, TrainConfig(batch_size=4, max_steps=few + more))[:few]


def test_epochs_alone_give_the_steps_they_always_gave() -> None:
    assert num_steps(10, TrainConfig(batch_size=4, epochs=2.5)) == 8
    assert num_steps(10, TrainConfig(batch_size=4, epochs=0.01)) == 1
