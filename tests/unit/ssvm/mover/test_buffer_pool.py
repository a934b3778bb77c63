# SPDX-License-Identifier: Apache-2.0
"""The buffers of a mover: bounded, made late, and taken while they are warm."""

from __future__ import annotations

import threading

from systemvm.ssvm.mover.buffer_pool import BufferPool


def test_the_buffer_that_came_back_last_is_taken_first() -> None:
    pool = BufferPool(3, 16)
    first, second = pool.take(), pool.take()
    pool.give_back(second)
    pool.give_back(first)
    assert pool.take() is first
    assert pool.take() is second


def test_no_buffer_is_made_while_one_is_free() -> None:
    pool = BufferPool(100, 16)
    only = pool.take()
    for _ in range(10):
        pool.give_back(only)
        assert pool.take() is only


def test_no_more_than_its_number_is_made() -> None:
    pool = BufferPool(2, 16)
    taken = [pool.take(), pool.take()]
    got: list[bytearray] = []
    waiting = threading.Thread(target=lambda: got.append(pool.take()))
    waiting.start()
    waiting.join(0.05)
    assert got == []
    pool.give_back(taken[0])
    waiting.join()
    assert got[0] is taken[0]


def test_waking_ends_a_wait_without_a_buffer() -> None:
    pool = BufferPool(1, 16)
    pool.take()
    waiting = threading.Thread(target=pool.take)
    waiting.start()
    pool.wake()
    waiting.join()


def test_a_pool_that_shrinks_keeps_fewer_buffers() -> None:
    pool = BufferPool(4, 8)
    taken = [pool.take() for _ in range(3)]
    pool.shrink(2)
    pool.shrink(2)  # repeating it has no effect
    for each in taken:
        pool.give_back(each)
    assert [id(pool.take()) for _ in range(2)] == [id(taken[2]), id(taken[1])]
    waiting = threading.Thread(target=pool.take, daemon=True)
    waiting.start()
    assert waiting.is_alive(), "there is no third one"
    pool.wake()
    waiting.join(30)
    assert not waiting.is_alive()
