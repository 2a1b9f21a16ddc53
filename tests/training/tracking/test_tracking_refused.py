"""Versions that the gate may not promote, and files that belong to an encoder."""

from functools import partial

import numpy as np
import pytest

from handful_training.tracking import Version


@pytest.fixture
def refused(tracker, register, make_bundle, tmp_path) -> Version:
    """The second version of `animals`, refused; the first one is champion."""
    first = register(tracker)
    tracker.registry.consider("animals", first)
    other = make_bundle(tmp_path / "other", seed=1)
    version = Version("animals", register(tracker, bundle=other))
    tracker.registry.refuse(version, "not shown to be better")
    return version


def test_the_gate_does_not_promote_what_was_refused(tracker, refused):
    """Newer data would win here, but not against a refusal; nor when it is asked again."""
    for _ in range(2):
        decision = tracker.registry.consider(*refused)
        assert not decision.promoted
        assert "not shown to be better" in decision.reason
        assert f"handful-train promote animals {refused.version}" in decision.reason
    assert tracker.registry.resolve("animals") == Version("animals", "1")


def test_a_person_overrules_a_refusal(tracker, refused):
    """Promoted by hand it is champion, and heads on its encoder are no longer refused."""
    assert tracker.registry.refusal(refused) == "not shown to be better"
    tracker.registry.promote(*refused)
    assert tracker.registry.refusal(refused) is None
    assert tracker.registry.consider(*refused).promoted


def test_a_version_tells_which_labels_its_encoder_has_seen(tracker, register, out_of_fold):
    """They travel with the predictions; without predictions nothing was seen."""
    whole = out_of_fold(np.ones(9, bool))
    known = register(tracker, out_of_fold=whole.without(whole.keys[:5]))
    assert tracker.registry.seen(Version("animals", known)) == whole.keys[:5]
    assert tracker.registry.seen(Version("animals", register(tracker))) == ()


def test_an_encoder_keeps_the_files_of_the_run_that_brought_it(tracker, bundle_dir, tmp_path):
    """A version with the same encoder finds them in the other version's run."""
    note = tmp_path / "note.txt"
    note.write_text("kept")
    with tracker.run("animals") as run:
        run.artifacts(note, folder="network")
        tracker.registry.register("animals", bundle_dir, run)
    with tracker.run("animals") as run:
        again = tracker.registry.register("animals", bundle_dir, run)
    version = Version("animals", again)
    fetch = partial(tracker.registry.fetch_run_file, version, of_encoder=True)
    found = fetch("network/note.txt", tmp_path / "into")
    assert found is not None
    assert found.read_text() == "kept"
    assert fetch("network/no.txt", tmp_path) is None
    assert tracker.registry.fetch_run_file(version, "network/note.txt", tmp_path) is None
