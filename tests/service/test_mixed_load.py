"""Row ↔ request under concurrency: no answer is wrong, none goes to another request."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest


@pytest.fixture(scope="module")
def pictures(mixed_load, bundle_dir):
    return mixed_load.draw_pictures(bundle_dir)


def test_every_answer_is_the_offline_embedding(server, mixed_load, pictures) -> None:
    """2,000 answers over 64 connections of mixed forms equal the offline embeddings row by row."""
    report = asyncio.run(mixed_load.drive(server.url, pictures, answers=2000, connections=64))
    assert (report.failed, report.wrong, report.swapped) == (0, 0, 0)
    assert report.answers == 2000
    assert report.rows > 2000
    assert set(report.forms) == {"raw", "multipart", "json", "npy"}
    assert server.metric("handful_batch_rows_sum") > server.metric("handful_batches_total")


def test_the_check_can_fail(server, mixed_load, pictures) -> None:
    """The same driver reports swapped rows when each picture is expected to be its neighbour."""
    shifted = replace(pictures, embeddings=np.roll(pictures.embeddings, 1, axis=0))
    report = asyncio.run(mixed_load.drive(server.url, shifted, answers=20, connections=4))
    assert report.wrong == report.swapped == report.rows
