"""The routes of a service, as flows: what is asked, and what the answers mean.

Knows no sockets and no retries. What the decoder makes is in `remote_images.py`.
"""

from collections.abc import Sequence

from handful_client import answers, bodies, extras, remote_images, rows
from handful_client.batches import Batch
from handful_client.channel import Channel, Sent, in_halves, placed
from handful_client.errors import (
    ConnectionFailed,
    ConnectionLost,
    TimedOut,
    Unavailable,
    Unprocessable,
)
from handful_client.flow import Flow, Reply, Request
from handful_client.images import Vector
from handful_client.options import Options
from handful_client.results import (
    Classified,
    EmbedResult,
    ImagesResult,
    ReconstructResult,
    join_classified,
    join_embedded,
    join_images,
    join_reconstructed,
)
from handful_client.wire import (
    ClassifyAnswer,
    EmbedAnswer,
    ItemError,
    ModelInfo,
    ModelRef,
    Prediction,
)

# Up to here JSON costs less than asking for the model's name, which npy does not bear.
_FEW = 8


class Remote:
    """A service, as the client's methods see it."""

    in_flight = 4

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def with_options(self, options: Options) -> "Remote":
        """Return the same service under other options."""
        return Remote(Channel(options, self._channel.shared))

    def ready(self) -> Flow[bool]:
        """Ask whether the service takes requests now. Asks once; nobody there is a no."""
        try:
            yield from self._channel.exchange(Request("GET", "/readyz"), max_retries=0)
        except (ConnectionFailed, ConnectionLost, TimedOut, Unavailable):
            return False
        return True

    def model(self) -> Flow[ModelInfo]:
        """Ask what is served."""
        return self._channel.ask_model()

    def embed(self, batch: Batch, *, latent: bool) -> Flow[EmbedResult]:
        """Embed one batch; a body that is too large is halved."""
        return in_halves(batch, lambda part: self._embed(part, latent=latent), join_embedded)

    def classify(self, batch: Batch) -> Flow[Classified]:
        """Classify one batch of images or of embeddings; a body that is too large is halved."""
        return in_halves(batch, self._classify, join_classified)

    def decode(self, batch: Batch) -> Flow[ImagesResult]:
        """Decode one batch of latents; a body that is too large is halved."""
        return in_halves(batch, lambda part: remote_images.decode(self._channel, part), join_images)

    def reconstruct(self, batch: Batch) -> Flow[ReconstructResult]:
        """Encode and decode one batch; a body that is too large is halved."""
        return in_halves(
            batch, lambda part: remote_images.reconstruct(self._channel, part), join_reconstructed
        )

    def sample(self, count: int, label: str | None, seed: int | None) -> Flow[ImagesResult]:
        """Draw images from the model."""
        return remote_images.sample(self._channel, count, label, seed)

    def _embed(self, batch: Batch, *, latent: bool) -> Flow[EmbedResult]:
        sent = batch.sendable()
        if not sent:
            info = yield from self._channel.known_model()
            dim = info.manifest.latent_dim if latent else info.manifest.embedding_dim
            blank = rows.from_lists([None] * len(batch), dim)
            variance = blank.copy() if latent else None
            return EmbedResult(blank, batch.unreadable(), info.model, variance)
        as_npy = not latent and len(sent) > _FEW and extras.numpy_or_none() is not None
        reply = yield from self._send_to_embed(batch, sent, latent=latent, as_npy=as_npy)
        if reply.headers.get("content-type", "").startswith(bodies.NPY):
            model = yield from self._model_of(reply)
            found = answers.array(reply, len(sent))
            table = rows.scatter(found, _places(batch, sent), len(batch), found.shape[1])
            return EmbedResult(table, batch.unreadable(), model)
        answers.space_of(reply, self._channel.options)
        answer = answers.parse(reply, EmbedAnswer)
        errors = placed(reply, batch, sent, answer.errors)

        def table_of(vectors: Sequence[Sequence[float] | None]) -> rows.Rows:
            found = answers.vectors(reply, vectors, answer.dim, len(sent))
            return rows.scatter(found, _places(batch, sent), len(batch), answer.dim)

        variance = None if answer.log_variance is None else table_of(answer.log_variance)
        return EmbedResult(table_of(answer.embeddings), errors, answer.model, variance)

    def _send_to_embed(
        self, batch: Batch, sent: Sent, *, latent: bool, as_npy: bool
    ) -> Flow[Reply]:
        if as_npy:
            try:
                return (yield from self._channel.send_images("/embed", sent, accept=bodies.NPY))
            except Unprocessable as error:
                if error.code != "items_failed":  # npy has no place for errors; JSON has
                    raise
        query = {"space": "latent"} if latent else {}
        return (
            yield from self._channel.send_images("/embed", sent, alone=batch.alone, query=query)
        )

    def _classify(self, batch: Batch) -> Flow[Classified]:
        sent = batch.sendable()
        if not sent:
            info = yield from self._channel.known_model()
            return Classified(list(batch.unreadable()), info.model)
        if isinstance(sent[0][1], Vector):
            request = bodies.embeddings("/classify", [entry for _, entry in sent])
            reply = yield from self._channel.exchange(request)
        else:
            reply = yield from self._channel.send_images("/classify", sent, alone=batch.alone)
        answers.space_of(reply, self._channel.options)
        answer = answers.parse(reply, ClassifyAnswer)
        answers.check_count(reply, len(answer.predictions), len(sent))
        failed = placed(reply, batch, sent, answer.errors)
        outcomes: dict[int, Prediction | ItemError] = {error.index: error for error in failed}
        for (index, _), prediction in zip(sent, answer.predictions, strict=True):
            if prediction is not None:
                outcomes[index] = prediction
        if len(outcomes) != len(batch):
            raise answers.unexpected(reply, "a prediction is null, and no error says why")
        return Classified([outcomes[index] for index in sorted(outcomes)], answer.model)

    def _model_of(self, reply: Reply) -> Flow[ModelRef]:
        space = answers.space_of(reply, self._channel.options)
        version = reply.headers.get("x-model-version")
        if not version:
            raise answers.unexpected(reply, "no X-Model-Version header")
        self._channel.forget_model(unless_space=space)
        info = yield from self._channel.known_model()
        return ModelRef(name=info.model.name, version=version, space=space)


def _places(batch: Batch, sent: Sent) -> list[int]:
    return [index - batch.start for index, _ in sent]
