"""Streams: any number of images, in order, in bounded memory."""

import asyncio
import itertools
import threading

import httpx
import numpy as np
import pytest

from handful_client import AsyncHandful, Handful, errors

IMAGE = b"\xff\xd8\xff"


def test_streams_keep_order_and_lose_nothing(client, photos):
    """Item i is image i with what `embed` gives it, and a bad image is an item with its error."""
    given = [*photos, b"no image", *photos]
    expected = client.embed(given)
    items = list(client.embed_stream(iter(given), batch_size=4, in_flight=3))
    assert [item.index for item in items] == list(range(25))
    assert all(item.image is image for item, image in zip(items, given, strict=True))
    assert [item.index for item in items if item.error] == [12]
    assert items[12].embedding is None
    found = np.stack([item.embedding for item in items if item.error is None])
    np.testing.assert_allclose(found, expected.embeddings[expected.ok], rtol=1e-5, atol=1e-6)
    assert {item.model for item in items} == {expected.model}


def test_streams_of_predictions(client, photos):
    """A stream of predictions says what `classify` says, image by image."""
    given = [*photos, "/no/such/file"]
    expected = client.classify(given, errors="return")
    items = list(client.classify_stream(given, batch_size=5))
    assert [item.error or item.prediction.label for item in items] == [
        *(prediction.label for prediction in expected[:-1]),
        expected[-1],
    ]


def test_streams_of_latents(client, photos):
    """A stream of latents has a mean and a log variance per image."""
    expected = client.embed(photos, space="latent")
    for row, item in enumerate(client.embed_stream(photos, space="latent", batch_size=5)):
        np.testing.assert_allclose(item.embedding, expected.embeddings[row], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            item.log_variance, expected.log_variance[row], rtol=1e-5, atol=1e-6
        )


def test_progress_is_told_batch_by_batch(client, photos):
    """The callback counts images up to all of them; of a generator the total is not known."""
    told = []
    list(client.embed_stream(photos, batch_size=5, progress=lambda *args: told.append(args)))
    assert told == [(5, 12), (10, 12), (12, 12)]
    told.clear()
    generator = (photo for photo in photos)
    list(client.classify_stream(generator, batch_size=6, progress=lambda *args: told.append(args)))
    assert told == [(6, None), (12, None)]


def test_input_is_read_only_as_far_as_needed(counting_transport):
    """An endless input is read at most `in_flight` batches ahead of what was taken."""
    read = itertools.count()
    transport = counting_transport()
    with Handful(transport=transport) as client:
        endless = (IMAGE for _ in iter(lambda: next(read), None))
        stream = client.embed_stream(endless, batch_size=10, in_flight=3)
        taken = [next(stream) for _ in range(100)]
        assert next(read) <= 100 + 3 * 10
        stream.close()
    assert [item.index for item in taken] == list(range(100))
    assert transport.most <= 3


def test_requests_overlap(counting_transport):
    """Several requests are in flight at once, never more than asked for."""
    transport = counting_transport()
    with Handful(transport=transport) as client:
        assert len(list(client.embed_stream([IMAGE] * 400, batch_size=4, in_flight=5))) == 400
    assert 2 <= transport.most <= 5


def test_large_images_make_small_batches(counting_transport):
    """A batch is bounded by bytes as well as by number."""
    transport = counting_transport()
    with Handful(transport=transport) as client:
        large = IMAGE + bytes(3 * 1024 * 1024)
        assert len(client.embed([large] * 7)) == 7
    assert transport.total == 4  # of at most 8 MiB


def test_a_body_that_is_too_large_is_halved(server, behave, connect):
    """A batch that the service finds too large goes in halves; one image alone fails alone."""
    too_large = behave.problem(413, "body_too_large")
    answers = [behave.answer(200, behave.embeddings_of(n)) for n in (2, 1)]
    model = behave.answer(200, behave.model_answer())
    server.does(too_large, answers[0], too_large, too_large, model, answers[1])
    result = connect(server.url).embed([IMAGE] * 4)
    assert result.ok == [True, True, False, True]
    assert [(error.index, error.code) for error in result.errors] == [(2, "body_too_large")]
    assert result.embeddings[:, 0].tolist()[:2] == [0.0, 1.0]


def test_a_swap_to_another_space_ends_a_stream(counting_transport):
    """Embeddings of two spaces never come out of one stream; the first space's all do."""
    spaces = ["sha256:" + "1" * 64, "sha256:" + "2" * 64]
    with Handful(transport=counting_transport(lambda number: spaces[number >= 3])) as client:
        stream = client.embed_stream([IMAGE] * 50, batch_size=5, in_flight=1)
        taken = []
        with pytest.raises(errors.SpaceMismatch, match="from image 15 on"):
            taken.extend(stream)
        for item in stream:
            pytest.fail(f"{item} after the end")
    alternating = counting_transport(lambda number: spaces[number % 2])
    with Handful(transport=alternating) as client, pytest.raises(errors.SpaceMismatch):
        client.embed([IMAGE] * 200)


def test_an_expected_space_is_insisted_on(client, photos):
    """With `expect_space` answers of any other space are refused, those of this one are not."""
    space = client.model().model.space
    assert client.with_options(expect_space=space).embed(photos).model.space == space
    other = "sha256:" + "0" * 64
    with pytest.raises(errors.SpaceMismatch, match=f"expected {other}"):
        client.with_options(expect_space=other).embed(photos[0])


def test_a_failed_request_ends_the_stream_after_what_came_before(server, behave, connect):
    """What was answered before a failure comes out first, then the failure does."""
    sound = behave.answer(200, behave.embeddings_of(2))
    server.does(sound, behave.problem(500, "internal_error"))
    stream = connect(server.url).embed_stream([IMAGE] * 6, batch_size=2, in_flight=1)
    assert [next(stream).index, next(stream).index] == [0, 1]
    with pytest.raises(errors.InternalError):
        next(stream)


@pytest.mark.timeout(40)  # less than one such pause
def test_giving_up_a_stream_does_not_wait_for_retries(behave):
    """Closing a stream ends the pauses of its requests in flight."""
    refused = threading.Event()

    def handle(request: httpx.Request) -> httpx.Response:
        headers = {"x-embedding-space": behave.SPACE, "retry-after": "50"}
        if b"first" in request.read():
            assert refused.wait(10)
            return httpx.Response(200, json=behave.embeddings_of(1), headers=headers)
        refused.set()
        return httpx.Response(503, json={}, headers=headers)

    with Handful(transport=httpx.MockTransport(handle)) as client:
        images = [IMAGE + b"first", *[IMAGE] * 5]
        stream = client.embed_stream(images, batch_size=1, in_flight=3)
        assert next(stream).index == 0
        stream.close()


def test_sizes_that_make_no_sense(client):
    """A batch of none, or no request at all, is refused when the stream is made."""
    for sizes in ({"batch_size": 0}, {"in_flight": 0}):
        with pytest.raises(errors.InputError):
            client.embed_stream([], **sizes)


async def _agen(images):
    for image in images:
        yield image


def test_asynchronous_input(service, photos):
    """The awaiting client takes asynchronous iterables, too; the blocking one says who does."""

    async def run():
        async with AsyncHandful(service) as client:
            return [item.index async for item in client.embed_stream(_agen(photos), batch_size=5)]

    assert asyncio.run(run()) == list(range(12))
    with Handful(service) as client, pytest.raises(errors.InputError, match="AsyncHandful"):
        client.embed_stream(_agen(photos))
