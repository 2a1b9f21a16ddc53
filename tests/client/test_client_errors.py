"""One error per cause, each with what is needed to act on it."""

import copy
import pickle

import pytest

from handful_client import Handful, errors

IMAGE = b"\xff\xd8\xff"


def _tree(kind=errors.HandfulError):
    return {kind} | {one for sub in kind.__subclasses__() for one in _tree(sub)}


def test_the_tree_in_the_docstring_is_the_tree():
    """Every error class stands in the module's drawing, and only those."""
    drawn = {
        word
        for line in errors.__doc__.splitlines()
        if line.startswith(("HandfulError", "├", "│", "└", " "))
        for word in line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()[:1]
    }
    assert drawn == {kind.__name__ for kind in _tree()}


def test_errors_survive_copying_and_pickling():
    """An error crosses process borders with all that it knows."""
    error = errors.RateLimited("slow down", status=429, request_id="r", retry_after=2.0)
    error.attempts = 3
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is errors.RateLimited
        assert vars(twin) == vars(error)
        assert str(twin) == str(error) == "slow down (request r, 3 attempts)"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad_request", errors.BadRequest),
        (401, "unauthorized", errors.Unauthorized),
        (403, "forbidden", errors.Forbidden),
        (404, "not_found", errors.NotFound),
        (405, "method_not_allowed", errors.NotFound),
        (408, "body_timeout", errors.TooSlow),
        (409, "no_head", errors.NoHead),
        (409, "no_decoder", errors.NoDecoder),
        (409, "no_classes", errors.Conflict),
        (409, "space_mismatch", errors.SpaceMismatch),
        (413, "body_too_large", errors.TooLarge),
        (413, "image_too_large", errors.ImageRejected),
        (415, "image_unsupported", errors.ImageRejected),
        (415, "media_type_unsupported", errors.BadRequest),
        (422, "image_unreadable", errors.ImageRejected),
        (422, "npy_invalid", errors.Unprocessable),
        (429, "rate_limited", errors.RateLimited),
        (500, "internal_error", errors.InternalError),
        (503, "overloaded", errors.Unavailable),
        (504, "deadline_exceeded", errors.DeadlineExceeded),
        (507, "disk_full", errors.InternalError),
    ],
)
def test_each_problem_has_its_type(server, behave, status, code, kind):
    """Status and code of a problem decide the error, which carries the problem's facts."""
    server.does(behave.problem(status, code, retryable=status >= 500))
    with Handful(server.url, max_retries=0) as client, pytest.raises(kind) as caught:
        client.embed(IMAGE)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (status, code, "from-the-service")
    assert error.retryable is (status >= 500)
    assert "the remedy" in str(error)
    assert "from-the-service" in str(error)


def test_nobody_there(connect):
    """A refused connection is told with the address and how to start the service."""
    client = connect("http://127.0.0.1:1", max_retries=0)
    with pytest.raises(errors.ConnectionFailed, match=r"127\.0\.0\.1:1.*handful-serve") as caught:
        client.embed(IMAGE)
    assert caught.value.retryable
    assert client.ready() is False


def test_another_server_is_recognised(server, behave, connect):
    """Answers that Handful does not give are told as such, whatever their status."""
    client = connect(server.url)
    sound = behave.embeddings_of(1)
    for order in (
        behave.answer(200, b"<html>", content_type="text/html"),
        behave.answer(404, b"<html>", content_type="text/html"),
        behave.answer(301, b"", location="https://elsewhere"),
        behave.answer(200, {"model": 1}),
        behave.answer(200, {**sound, "embeddings": []}),
        behave.answer(200, {**sound, "embeddings": [[1.0, 2.0, 3.0]]}),
        behave.answer(
            200, {**sound, "errors": [{"index": 7, "type": "", "code": "", "detail": ""}]}
        ),
        behave.answer(200, sound, x_embedding_space=""),
    ):
        server.does(order)
        with pytest.raises(errors.UnexpectedAnswer) as caught:
            client.embed(IMAGE)
        assert caught.value.request_id == "from-the-service"


def test_a_model_without_a_head(bundle_dir_grey, service_of, photos):
    """A service or bundle without head or decoder says so, each as its own error."""
    with service_of(bundle_dir_grey) as url, Handful(url) as remote:
        for client in (remote, Handful.local(bundle_dir_grey, threads=1)):
            with pytest.raises(errors.NoHead, match="handful-train head grey"):
                client.classify(photos)
            for call in (
                lambda: client.decode([[0.0] * 4]),  # noqa: B023  # called at once
                lambda: client.reconstruct(photos),  # noqa: B023
                client.sample,
            ):
                with pytest.raises(errors.NoDecoder):
                    call()
            assert client.embed(photos).embeddings.shape == (12, 8)
            client.close()


def test_a_folder_that_is_no_bundle(tmp_path):
    """`local` on a folder that is no bundle names the remedy."""
    with pytest.raises(errors.BundleUnusable, match="handful-train export"):
        Handful.local(tmp_path)
