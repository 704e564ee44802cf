from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skproto.nn import matching
from skproto.nn.matching import (
    MatchingRule,
    cosines,
    exact_match,
    greedy_match,
    match_pairs,
    match_parts,
    neighbour_table,
    unit,
)

quick = settings(deadline=None, max_examples=30)
# Two parts, three sites on a line.
LINE = [[0.9, 0.2, 0.8], [0.7, 0.1, 0.95]]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def one(similarities, adjacency, radius=1, grid=None, **masks):
    """Match one sample and one prototype; return values and sites as lists."""
    s = torch.tensor(similarities)[None, None]
    near = neighbour_table(s.shape[-1], grid, radius)
    values, sites = greedy_match(s, MatchingRule(adjacency, near, **masks))
    return values[0, 0].tolist(), sites[0, 0].tolist()


def distance(grid, a, b):
    if grid is None:
        return abs(a - b)
    return max(abs(a // grid[1] - b // grid[1]), abs(a % grid[1] - b % grid[1]))


def naive(s, adjacency, radius, grid, part_mask, site_mask):
    """One sample, one prototype, by loops: values (M,) and sites (M,)."""
    n_parts, n_sites = len(s), len(s[0])
    values = [-1.0 if part_mask[k] else 0.0 for k in range(n_parts)]
    sites = [-1] * n_parts
    taken = []
    for _ in range(n_parts):
        free = [
            (t, k)
            for t in range(n_sites)
            for k in range(n_parts)
            if site_mask[t] and t not in taken and part_mask[k] and sites[k] < 0
        ]
        anchors = taken[-1:] if adjacency == "chain" else taken
        near = [
            (t, k)
            for t, k in free
            if adjacency is None
            or not taken
            or any(distance(grid, t, a) <= radius for a in anchors)
        ]
        if not free:
            break
        t, k = max(near or free, key=lambda pair: (s[pair[1]][pair[0]], -pair[0]))
        best = s[k][t]
        k = min(part for site, part in free if site == t and s[part][t] == best)
        values[k], sites[k] = best, t
        taken.append(t)
    return values, sites


def assert_naive(s, adjacency, radius, grid, part_mask=None, site_mask=None):
    n, n_prototypes, n_parts, n_sites = s.shape
    near = neighbour_table(n_sites, grid, radius)
    rule = MatchingRule(adjacency, near, part_mask, site_mask)
    values, sites = greedy_match(s, rule)
    parts = torch.ones(n_prototypes, n_parts) if part_mask is None else part_mask
    places = torch.ones(n, n_sites) if site_mask is None else site_mask
    for i in range(n):
        for p in range(n_prototypes):
            expected = naive(
                s[i, p].tolist(), adjacency, radius, grid, parts[p].tolist(), places[i]
            )
            assert values[i, p].tolist() == expected[0]
            assert sites[i, p].tolist() == expected[1]


def connected(sites, grid, radius):
    """Whether the sites hang together, by growing a set from the first."""
    reached, waiting = [sites[0]], list(sites[1:])
    while True:
        near = [
            t for t in waiting if any(distance(grid, t, r) <= radius for r in reached)
        ]
        if not near:
            return not waiting
        reached += near
        waiting = [t for t in waiting if t not in near]


# ----------------------------------------------------------- worked numbers
@pytest.mark.parametrize("adjacency", ["connected", "chain"])
def test_neighbours_only(adjacency):
    values, sites = one(LINE, adjacency)
    assert sites == [1, 2]
    assert sum(values) == pytest.approx(1.15)


@pytest.mark.parametrize(("adjacency", "radius"), [("connected", 2), (None, 1)])
def test_wide_radius(adjacency, radius):
    values, sites = one(LINE, adjacency, radius)
    assert sites == [0, 2]
    assert sum(values) == pytest.approx(1.85)
    best = max(LINE[0][a] + LINE[1][b] for a, b in permutations(range(3), 2))
    assert best == pytest.approx(1.85)


def test_greedy_is_not_optimal():
    values, sites = one([[1.0, 0.9], [0.95, 0.1]], None)
    assert sites == [0, 1]
    assert sum(values) == pytest.approx(1.1)
    best, sites = exact_match(
        torch.tensor([[[[1.0, 0.9], [0.95, 0.1]]]]), MatchingRule(None)
    )
    assert best.sum().item() == pytest.approx(1.85)
    assert sites.flatten().tolist() == [1, 0]


def test_neighbour_counts():
    counts = neighbour_table(20, (4, 5)).sum(1).view(4, 5)
    assert (counts[1:-1, 1:-1] == 9).all()
    assert counts[0, 1:-1].tolist() == [6, 6, 6]
    assert counts[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [4, 4, 4, 4]
    assert neighbour_table(5).sum(1).tolist() == [2, 3, 3, 3, 2]
    assert neighbour_table(5, radius=4).all()


@pytest.mark.parametrize("adjacency", ["connected", "chain", None])
def test_equals_loops(adjacency):
    s = torch.rand(4, 3, 4, 16, generator=generator()) * 2 - 1
    assert_naive(s, adjacency, 1, (4, 4))
    assert_naive(s, adjacency, 1, None)
    assert_naive(s, adjacency, 2, (2, 8))


def test_chain_loses_parts_in_a_row():
    # The part in the middle is found first, the one left of it second. On a line all
    # neighbours of that one are taken then, and any site is admissible again.
    line = [[0.0, 1.0, 0.0, 0.0], [0.9, 0.0, 0.0, 0.0], [0.0, 0.0, 0.8, 0.1]]
    assert one(line, "connected")[1] == one(line, "chain")[1] == [1, 0, 2]
    # On a grid of 2 x 3 a cell below is free: the third part cannot go to its own.
    grid = [[0.0] * 6 for _ in range(3)]
    grid[0][1], grid[1][0], grid[2][2], grid[2][3] = 1.0, 0.9, 0.8, 0.1
    assert one(grid, "connected", grid=(2, 3))[0] == pytest.approx([1.0, 0.9, 0.8])
    assert one(grid, "chain", grid=(2, 3))[0] == pytest.approx([1.0, 0.9, 0.1])


def test_equals_go_to_the_lowest_site_then_part():
    assert one([[0.5] * 3, [0.5] * 3], None)[1] == [0, 1]
    assert one([[0.1, 0.9, 0.9], [0.1, 0.9, 0.9]], "connected")[1] == [1, 2]


def test_mask_is_relaxed_at_a_corner():
    # Five parts on a 2 x 2 corner of a 2 x 4 grid by the chain rule.
    s = torch.rand(1, 1, 5, 8, generator=generator())
    s[..., [0, 1, 4, 5]] += 2
    values, sites = greedy_match(s, MatchingRule("chain", neighbour_table(8, (2, 4))))
    assert len(set(sites.flatten().tolist())) == 5
    assert values.min() >= 0


def test_too_few_sites():
    mask = torch.tensor([[True, False, False]])
    assert one(LINE, "connected", site_mask=mask) == (
        [pytest.approx(0.9), -1.0],
        [0, -1],
    )
    none = torch.zeros(1, 3, dtype=torch.bool)
    assert one(LINE, "connected", site_mask=none) == ([-1.0, -1.0], [-1, -1])


def test_parts_left_out():
    mask = torch.tensor([[True, False]])
    assert one(LINE, "connected", part_mask=mask) == (
        [pytest.approx(0.9), 0.0],
        [0, -1],
    )


def test_input_stays():
    s = torch.rand(2, 2, 3, 5, generator=generator())
    before = s.clone()
    greedy_match(s, MatchingRule("connected", neighbour_table(5)))
    assert torch.equal(s, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: neighbour_table(4, radius=0), "radius must be at least 1. Got 0"),
        (lambda: neighbour_table(5, (2, 2)), "grid must have as many cells"),
        (lambda: MatchingRule("ring"), "adjacency must be one of"),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ----------------------------------------------------------------- properties
@st.composite
def cases(draw):
    grid = draw(st.sampled_from([None, (2, 3), (3, 4), (1, 6), (4, 4)]))
    n_sites = draw(st.integers(4, 9)) if grid is None else grid[0] * grid[1]
    shape = (2, draw(st.integers(1, 3)), draw(st.integers(1, 4)), n_sites)
    g = generator(draw(st.integers(0, 2**20)))
    # A coarse scale makes ties.
    s = torch.randint(-4, 5, shape, generator=g) / 4
    radius = draw(st.integers(1, 2))
    return s, draw(st.sampled_from(matching.ADJACENCIES)), radius, grid, g


@quick
@given(cases(), st.booleans())
def test_equals_loops_with_masks_and_ties(case, masked):
    s, adjacency, radius, grid, g = case
    parts = torch.rand(s.shape[1:3], generator=g) < 0.7 if masked else None
    places = torch.rand(s.shape[0], s.shape[3], generator=g) < 0.6 if masked else None
    assert_naive(s, adjacency, radius, grid, parts, places)


@quick
@given(cases())
def test_one_to_one_and_connected(case):
    s, _, radius, grid, _ = case
    near = neighbour_table(s.shape[3], grid, radius)
    values, sites = greedy_match(s, MatchingRule("connected", near))
    for line in sites.flatten(0, 1).tolist():
        assert len(set(line)) == len(line)
        assert connected(line, grid, radius)
    assert torch.equal(values, s.gather(3, sites[..., None])[..., 0])


@quick
@given(st.integers(0, 2**20), st.integers(1, 4), st.sampled_from([(3, 3), None]))
def test_connected_set_finds_itself(seed, n_parts, grid):
    g = generator(seed)
    z = unit(torch.randn(5, 9, 6, generator=g))
    rule = MatchingRule("connected", neighbour_table(9, grid), exact=True)
    _, sites = greedy_match(torch.rand(5, 1, n_parts, 9, generator=g), rule)
    p = z.gather(1, sites[:, 0, :, None].expand(-1, -1, 6))
    values, again = match_parts(z, p, rule)
    own = torch.arange(5)
    assert torch.equal(again[own, own], sites[:, 0])
    assert torch.equal(values[own, own], torch.ones(5, n_parts))


# ------------------------------------------------------------------- in blocks
def tokens(n=3, n_sites=7, n_prototypes=5, n_parts=3, dim=6, dtype=torch.float64):
    g = generator(3)
    z = torch.randn(n, n_sites, dim, generator=g, dtype=dtype)
    return z, torch.randn(n_prototypes, n_parts, dim, generator=g, dtype=dtype)


@pytest.mark.parametrize("numbers", [1, 200, 2**20])
def test_blocks_change_nothing(numbers, monkeypatch):
    monkeypatch.setattr(matching, "_BLOCK_NUMBERS", numbers)
    z, p = (unit(v) for v in tokens())
    kept = torch.rand(5, 3, generator=generator()) < 0.7
    rule = MatchingRule("connected", neighbour_table(7), kept)
    values, sites = match_parts(z, p, rule)
    expected, where = greedy_match(cosines(z, p), rule)
    assert torch.equal(sites, where)
    torch.testing.assert_close(values, expected)


def test_cosines():
    z, p = tokens()
    expected = torch.nn.functional.cosine_similarity(
        z[:, None, None], p[None, :, :, None], dim=-1
    )
    torch.testing.assert_close(cosines(unit(z), unit(p)), expected)


@pytest.mark.parametrize("exact", [False, True])
def test_gradient_is_that_of_the_winners(exact):
    z, p = (v.requires_grad_() for v in tokens())
    kept = torch.rand(5, 3, generator=generator()) < 0.7
    rule = MatchingRule("connected", neighbour_table(7), kept, exact=exact)
    values, sites = match_parts(unit(z), unit(p), rule)
    assert values.requires_grad
    weight = torch.randn(values.shape, generator=generator(1), dtype=z.dtype)
    found = torch.autograd.grad((weight * values).sum(), (z, p))
    cosine = torch.nn.functional.cosine_similarity(
        z[:, None, None], p[None, :, :, None], dim=-1
    )
    winners = cosine.gather(3, sites.clamp_min(0)[..., None])[..., 0]
    winners = winners.masked_fill(sites < 0, 0.0)
    torch.testing.assert_close(values, winners)
    expected = torch.autograd.grad((weight * winners).sum(), (z, p))
    torch.testing.assert_close(found, expected)


def test_gradcheck():
    z, p = (v.requires_grad_() for v in tokens(n=2, n_sites=4, n_prototypes=2, dim=3))
    rule = MatchingRule("connected", neighbour_table(4, (2, 2)))
    assert torch.autograd.gradcheck(
        lambda z, p: match_parts(unit(z), unit(p), rule)[0], (z, p)
    )


def test_gradient_of_one_side():
    z, p = (unit(v) for v in tokens())
    rule = MatchingRule(None)
    match_parts(z, p.requires_grad_(), rule)[0].sum().backward()
    assert p.grad is not None
    match_parts(z.requires_grad_(), p.detach(), rule)[0].sum().backward()
    assert z.grad is not None


def test_no_direction():
    v = torch.zeros(2, 3, requires_grad=True)
    unit(v).sum().backward()
    assert torch.equal(unit(v), torch.zeros(2, 3))
    assert torch.equal(v.grad, torch.zeros(2, 3))
    z = torch.zeros(1, 2, 3)
    for exact in (False, True):
        rule = MatchingRule(None, exact=exact)
        values, _ = match_parts(z, unit(torch.ones(1, 2, 3)), rule)
        torch.testing.assert_close(values, torch.zeros(1, 1, 2), atol=1e-6, rtol=0)


def test_half_precision_is_matched_in_full():
    z, p = (v.float() for v in tokens())
    assert unit(z.bfloat16()).dtype == torch.float32
    rule = MatchingRule("connected", neighbour_table(7))
    expected = match_parts(unit(z), unit(p), rule)
    with torch.autocast("cpu", torch.bfloat16):
        found = match_parts(unit(z), unit(p), rule)
    assert torch.equal(found[0], expected[0])


def test_first_of_equal_tokens_whatever_the_rounding():
    z, p = tokens(n=9, n_sites=50, n_parts=1, dim=33, dtype=torch.float32)
    z[:, 25:] = z[:, :25] * 1.7
    _, sites = match_parts(unit(z), unit(p), MatchingRule(None))
    assert sites.max() < 25


def test_pairs():
    z, p = (unit(v) for v in tokens())
    kept = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0]], dtype=torch.bool)
    rule = MatchingRule("connected", neighbour_table(7))
    values, sites = match_pairs(z, p[:3], kept, rule)
    expected = match_parts(z, p[:3], rule.with_parts(kept))
    own = torch.arange(3)
    torch.testing.assert_close(values, expected[0][own, own])
    assert torch.equal(sites, expected[1][own, own])


# ------------------------------------------------------------------- exact matching
def best_by_loops(s, near, site_mask):
    """Largest sum of one sample and one prototype over all admissible sets."""
    n_parts, n_sites = len(s), len(s[0])
    sums = [-float("inf")]
    for sites in permutations([t for t in range(n_sites) if site_mask[t]], n_parts):
        reached, waiting = {sites[0]}, set(sites[1:])
        while near is not None and waiting:
            more = {t for t in waiting if any(near[t][r] for r in reached)}
            if not more:
                break
            reached, waiting = reached | more, waiting - more
        if near is None or not waiting:
            sums.append(sum(s[k][t] for k, t in enumerate(sites)))
    return max(sums)


@pytest.mark.parametrize("grid", [None, (3, 3)])
@pytest.mark.parametrize("adjacency", ["connected", None])
@pytest.mark.parametrize("n_parts", [1, 2, 3])
def test_exact_matching_has_the_largest_sum(n_parts, adjacency, grid):
    n_sites = 7 if grid is None else 9
    s = torch.randn(3, 4, n_parts, n_sites, generator=generator(), dtype=torch.float64)
    mask = torch.ones(3, n_sites, dtype=torch.bool)
    mask[1, 0] = False
    near = neighbour_table(n_sites, grid)
    rule = MatchingRule(adjacency, near, site_mask=mask, matching="exact")
    values, sites = exact_match(s, rule)
    torch.testing.assert_close(s.gather(3, sites[..., None])[..., 0], values)
    assert all(len(set(row)) == n_parts for row in sites.flatten(0, 1).tolist())
    for i in range(3):
        for p in range(4):
            table = None if adjacency is None else near.tolist()
            expected = best_by_loops(s[i, p].tolist(), table, mask[i].tolist())
            assert values[i, p].sum().item() == pytest.approx(expected)
    assert (values.sum(2) >= greedy_match(s, rule)[0].sum(2) - 1e-12).all()


def test_exact_matching_of_the_sheet():
    s = torch.tensor([[[[1.0, 0.9], [0.95, 0.1]]]])
    values, _ = exact_match(s, MatchingRule(None, matching="exact"))
    assert values.sum().item() == pytest.approx(1.85)


def test_exact_matching_leaves_parts_out_and_falls_back():
    s = torch.rand(2, 2, 3, 5, generator=generator())
    parts = torch.tensor([[True, False, True], [True, True, True]])
    apart = torch.tensor([[True, False, True, False, True], [True] * 5])
    rule = MatchingRule("connected", neighbour_table(5), parts, apart)
    values, sites = exact_match(s, rule)
    assert (sites[:, 0, 1] == -1).all()
    assert (values[:, 0, 1] == 0).all()
    # No two sites of the first sample are neighbours: greedy, as far as it goes.
    expected = greedy_match(s, rule)
    torch.testing.assert_close(values[0], expected[0][0])
    torch.testing.assert_close(sites[0], expected[1][0])


def test_exact_matching_refuses_chains_and_too_many_sets(monkeypatch):
    from skproto.nn import _exact_matching

    with pytest.raises(ValueError, match="needs adjacency='connected' or None"):
        MatchingRule("chain", matching="exact")
    with pytest.raises(ValueError, match="matching must be one of"):
        MatchingRule(matching="best")
    monkeypatch.setattr(_exact_matching, "MAX_SETS", 10)
    with pytest.raises(ValueError, match="more than 10"):
        _exact_matching.connected_sets(neighbour_table(25, (5, 5)), 3)
