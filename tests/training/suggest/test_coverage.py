"""The greedy choice: what it covers, in which order, and what it never takes."""

from itertools import combinations

import numpy as np
import pytest

from handful_training.suggest import coverage
from handful_training.suggest.coverage import BANDWIDTH, choose

NONE = np.zeros((0, 16), np.float32)


def pick(features, count, *, labelled=NONE, excluded=(), weight=None, seed=0):
    barred = np.zeros(len(features), bool)
    barred[list(excluded)] = True
    return choose(features, count, labelled=labelled, excluded=barred, weight=weight, seed=seed)


def objective(features, rows, weight=1.0):
    away = np.linalg.norm(features[:, None] - features[None, list(rows)], axis=2)
    return (weight * np.exp(-((away / BANDWIDTH) ** 2)).max(axis=1)).sum()


@pytest.mark.parametrize("seed", range(5))
def test_each_group_gets_one_before_any_gets_two(blobs, seed):
    """On well separated groups, k suggestions fall into k groups, the largest group first."""
    features, group = blobs((120, 60, 40, 30, 20, 10), seed)
    chosen = group[pick(features, 6, seed=seed).row]
    assert sorted(chosen.tolist()) == list(range(6))
    assert chosen[0] == 0


def test_groups_that_have_a_label_come_last(blobs):
    """Where some groups have a label already, the others are served first."""
    features, group = blobs((50, 40, 30, 20))
    known = [int(np.flatnonzero(group == g)[0]) for g in (0, 2)]
    chosen = pick(features, 2, labelled=features[known], excluded=known).row
    assert sorted(group[chosen].tolist()) == [1, 3]


def test_it_is_the_greedy_choice(blobs):
    """Looking only at candidates that may still be best finds what looking at all of them does."""
    features, _ = blobs((30, 20, 10), spread=0.3)
    weight = np.random.default_rng(1).random(60)
    greedy: list[int] = []
    for _ in range(12):
        rest = [row for row in range(60) if row not in greedy]
        greedy.append(max(rest, key=lambda r: objective(features, [*greedy, r], weight)))
    assert pick(features, 12, weight=weight).row.tolist() == greedy


def test_it_is_near_the_best_of_all_choices(blobs):
    """Greed reaches at least 1 - 1/e of what the best set of three covers."""
    features, _ = blobs((6, 5, 4), spread=0.5, seed=3)
    best = max(objective(features, rows) for rows in combinations(range(15), 3))
    found = objective(features, pick(features, 3).row)
    assert (1 - 1 / np.e) * best <= found <= best * (1 + 1e-6)


def test_few_are_the_beginning_of_many(blobs):
    """The same arguments give the same choice, and a smaller number its beginning."""
    features, _ = blobs((40, 40, 40), spread=0.4)
    many = pick(features, 20).row
    assert np.array_equal(many, pick(features, 20).row)
    for count in (1, 7, 19):
        assert np.array_equal(pick(features, count).row, many[:count])


def test_excluded_ones_and_their_likes_are_never_chosen(blobs):
    """Neither an excluded image is chosen, nor one that shows the same as a labelled one, nor two
    that show the same; so there may be fewer than asked for.
    """
    features, _ = blobs((10, 10), spread=0.3)
    twice = np.concatenate([features, features])
    chosen = pick(twice, 100, labelled=features[:4], excluded=[0, 5]).row
    assert len(chosen) == 16
    assert len({row % 20 for row in chosen.tolist()}) == 16
    assert not {0, 5, *range(4), *range(20, 24)} & set(chosen.tolist())


def test_what_images_stand_for_is_all_or_what_labels_leave(blobs):
    """Without labels the images chosen share the pool among them; a labelled group is nobody's."""
    features, group = blobs((60, 30, 10))
    chosen = pick(features, 3)
    assert chosen.stands_for == pytest.approx([0.6, 0.3, 0.1])
    known = int(np.flatnonzero(group == 0)[0])
    left = pick(features, 2, labelled=features[known : known + 1], excluded=[known])
    assert left.stands_for == pytest.approx([0.3, 0.1])


def test_weight_decides_where_to_look(blobs):
    """A small group that is open comes before a large one that is settled."""
    features, group = blobs((200, 20))
    assert group[pick(features, 1).row[0]] == 0
    assert group[pick(features, 1, weight=np.where(group == 1, 1.0, 0.01)).row[0]] == 1


def test_large_pools_are_sampled(blobs, monkeypatch):
    """Where a pool is larger than what is compared, groups are covered all the same, by seed."""
    monkeypatch.setattr(coverage, "MAX_REFERENCE", 300)
    monkeypatch.setattr(coverage, "MAX_CANDIDATES", 200)
    features, group = blobs((2000, 1500, 1000, 500))
    first = pick(features, 4, seed=1).row
    assert sorted(group[first].tolist()) == [0, 1, 2, 3]
    assert np.array_equal(first, pick(features, 4, seed=1).row)
    assert not np.array_equal(first, pick(features, 4, seed=2).row)


def test_nothing_left_is_nothing_chosen(blobs):
    """A pool of which all images are taken gives an empty choice."""
    features, _ = blobs((5, 5))
    chosen = pick(features, 3, labelled=features, excluded=range(10))
    assert len(chosen.row) == len(chosen.stands_for) == 0
