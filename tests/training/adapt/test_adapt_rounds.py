"""Adapting: what the network gains, what it keeps, and how it goes on after an interruption."""

import os
import signal

import numpy as np
import pytest
import torch

from handful_training.adapt.rounds import MAX_POOL, Kept, Labelled, Watcher, adapt, pool_rows
from handful_training.errors import InputError, TrainingError
from handful_training.interrupts import Interrupted
from handful_training.objective import elbo
from handful_training.pretrain import Budget, held_out_rows

EPOCHS = Budget(4, None)


class Stopping(Watcher):
    """Sends this process a signal when a round is over."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.resumed_after: list[int] = []

    def resumed(self, history, share):
        assert 0 < share < 1
        self.resumed_after = [row.round for row in history]

    def round(self, row):
        self.rounds.append(row.round)
        if row.round == 1 and not self.resumed_after:
            os.kill(os.getpid(), signal.SIGTERM)


def unit(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def neg_elbo(model, images):
    """Return -ELBO at the posterior's mean, nats an image: no noise, so it can be compared."""
    x = unit(images)
    _, mean, log_variance = model.encoder(x)
    terms = elbo(x, model.decoder(mean), mean, log_variance, likelihood=model.likelihood)
    return float(-terms.value.mean())


@pytest.fixture(scope="module")
def adapted(one_core, shapes, labelled, start, settings):
    return adapt(shapes[0], labelled, start, settings, EPOCHS, device="cpu")


def weights(model):
    return torch.cat([value.flatten().float() for value in model.state_dict().values()])


def test_the_elbo_survives(adapted, shapes, grey, start):
    """Held-out images cost at most 5 % more nats than before: the VAE stays a VAE."""
    unseen = shapes[0][held_out_rows(400, 20)]
    assert neg_elbo(adapted.model, unseen) < 1.05 * neg_elbo(start, unseen)


def test_the_decoder_follows_the_encoder(adapted, shapes):
    """The adapted decoder makes of a latent the image that it stands for, not just any."""
    x = unit(shapes[0][held_out_rows(400, 20)])
    with torch.no_grad():
        latent = adapted.model.encoder(x).mean
        own = adapted.model.decoder.expected(adapted.model.decoder(latent))
        other = adapted.model.decoder.expected(adapted.model.decoder(latent.roll(1, 0)))
    assert (own - x).square().mean() < 0.8 * (other - x).square().mean()


def test_what_the_graph_teaches_is_mostly_right(adapted, shapes, labelled):
    """Ten labels of two shapes are spread to the right images, and sure ones weigh most."""
    others = np.setdiff1d(adapted.pool, labelled.rows)
    right = adapted.pseudo.target[others].argmax(1) == shapes[1][others]
    assert right.mean() > 0.9
    weight = adapted.pseudo.weight[others]
    assert weight[right].mean() > weight[~right].mean() if (~right).any() else True


def test_the_embedding_separates_the_classes_better(adapted, shapes, labelled, start):
    """Nearest class mean of the labelled images errs no more often than before."""

    def errors(model):
        with torch.no_grad():
            found = torch.nn.functional.normalize(model.encoder(unit(shapes[0])).embedding).numpy()
        means = [found[labelled.rows[labelled.target == k]].mean(0) for k in (0, 1)]
        return int((np.argmax(found @ np.stack(means).T, 1) != shapes[1]).sum())

    assert errors(adapted.model) <= errors(start)


def test_the_start_is_left_as_it_is(shapes, labelled, start, settings):
    """Adapting changes a copy."""
    before = weights(start).clone()
    adapt(shapes[0], labelled, start, settings, Budget(1, None), device="cpu")
    assert torch.equal(weights(start), before)
    assert not start.training


@pytest.mark.usefixtures("one_core")
def test_epochs_make_it_repeatable(adapted, shapes, labelled, start, settings):
    """The same seed gives the same weights, another seed gives others."""
    again = adapt(shapes[0], labelled, start, settings, EPOCHS, device="cpu")
    other = adapt(shapes[0], labelled, start, settings, EPOCHS, seed=1, device="cpu")
    assert torch.equal(weights(again.model), weights(adapted.model))
    assert not torch.equal(weights(other.model), weights(adapted.model))


@pytest.mark.usefixtures("one_core")
def test_an_interrupted_adaptation_goes_on(adapted, shapes, labelled, start, settings, tmp_path):
    """Stopped after the first round and started again, it ends with the very same weights."""
    kept = Kept(tmp_path, {"space": "x"})
    with pytest.raises(Interrupted, match="start it again to go on"):
        adapt(
            shapes[0], labelled, start, settings, EPOCHS,
            kept=kept, device="cpu", watcher=Stopping(),
        )  # fmt: skip
    watcher = Stopping()
    watcher.resumed_after = [0]  # it does not stop a second time
    done = adapt(
        shapes[0], labelled, start, settings, EPOCHS, kept=kept, device="cpu", watcher=watcher
    )
    assert watcher.resumed_after == [1]
    assert watcher.rounds == [2]
    assert torch.equal(weights(done.model), weights(adapted.model))


def test_a_checkpoint_of_other_labels_is_not_continued(
    shapes, labelled, start, settings, tmp_path, caplog
):
    """What was adapted to one set of labels is no beginning for another."""
    kept = Kept(tmp_path, {"space": "x"})
    adapt(shapes[0], labelled, start, settings, Budget(1, None), kept=kept, device="cpu")
    swapped = Labelled(labelled.rows, 1 - labelled.target)
    done = adapt(shapes[0], swapped, start, settings, Budget(1, None), kept=kept, device="cpu")
    assert "another training" in caplog.text
    assert len(done.history) == 2


def test_a_random_start_is_taught_by_pixels(shapes, grey, labelled, settings):
    """The control needs no network: its first graph is one of pixels, and it learns."""
    done = adapt(shapes[0], labelled, grey, settings, EPOCHS, device="cpu")
    first, last = done.history[0], done.history[-1]
    assert last.neg_elbo < first.neg_elbo
    assert last.supervised < first.supervised


def test_the_clock_bounds_it(shapes, labelled, start, settings):
    """With next to no time, every round takes one step."""
    done = adapt(shapes[0], labelled, start, settings, Budget(None, 1e-6), device="cpu")
    assert [row.step for row in done.history] == [1, 2]


def test_a_loss_that_is_not_finite_is_an_error(shapes, labelled, start, settings):
    """It says so, with the remedy, instead of going on with broken weights."""
    wild = settings.model_copy(
        update={"adapt": settings.adapt.model_copy(update={"learning_rate": 1e30})}
    )
    with pytest.raises(TrainingError, match=r"adapt\.learning_rate=2\.5e\+29"):
        adapt(shapes[0], labelled, start, wild, EPOCHS, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(shapes, labelled, start, settings):
    """Asked for one, it does not silently use the CPU."""
    with pytest.raises(InputError, match="torch sees no GPU"):
        adapt(shapes[0], labelled, start, settings, EPOCHS, device="cuda")


@pytest.mark.parametrize("count", [100, MAX_POOL, MAX_POOL + 1, 3 * MAX_POOL])
def test_the_pool_is_bounded(count):
    """All rows or MAX_POOL of them, ascending, each once, the labelled ones among them."""
    labelled = np.array([0, 17, count - 1])
    rows = pool_rows(count, labelled, 0)
    assert len(rows) == min(count, MAX_POOL)
    assert (np.diff(rows) > 0).all()
    assert np.isin(labelled, rows).all()
    assert rows[-1] < count
