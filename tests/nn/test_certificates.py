"""Certificates: worked numbers, invariants, attacks and gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skproto.nn.certificates import (
    KernelHead,
    bisector_radius,
    certified_radius,
    closed_radius,
    convert_norm,
    envelope_radius,
    hypothesis_margin,
    input_radius,
    mixture_radius,
    operator_norms,
    rows_per_chunk,
    theorem_radius,
)

METHODS = ("theorem", "closed", "envelope")


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def metric(x, components):
    return (x[:, None, :] - components).norm(dim=-1)


def concept_scores(distances, head):
    detections = torch.exp(-(distances**head.power) / head.sigma)
    scores = detections @ head.weights
    return scores if head.bias is None else scores + head.bias


def class_scores(distances, head):
    scores = concept_scores(distances, head)
    n_classes = int(head.labels.max()) + 1
    best = scores.new_full((scores.shape[0], n_classes), -math.inf)
    return best.scatter_reduce(1, head.labels.expand_as(scores), scores, "amax")


def random_head(kind, power, shared, generator, *, size=None, n_reasonings=1):
    n_components, n_classes = size
    n_concepts = n_classes * n_reasonings

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    sigma = 0.3 + 3.0 * uniform(1 if shared else n_components).expand(n_components)
    labels = torch.arange(n_classes).repeat(n_reasonings)
    if kind == "free":
        return KernelHead.from_weights(
            normal(n_components, n_concepts),
            0.3 * normal(n_concepts),
            sigma,
            labels=labels,
            power=power,
        )
    rows = 2 * n_components if kind == "cbc" else n_components
    table = (2.0 * normal(rows, n_concepts)).softmax(dim=0)
    negative = table[n_components:] if kind == "cbc" else None
    return KernelHead.from_reasoning(
        table[:n_components], negative, sigma, labels=labels, power=power
    )


# ------------------------------------------------------------- worked numbers


def hand_head(sigma, power):
    positive = f64([[0.6, 0.1], [0.0, 0.6]])
    negative = f64([[0.0, 0.2], [0.4, 0.1]])
    return KernelHead.from_reasoning(positive, negative, f64(sigma), power=power)


@pytest.mark.parametrize(
    ("sigma", "power", "expected"),
    [
        ((2.0, 2.0), 1, (0.844098761, 1.089504959, 1.089504959)),
        ((2.0, 2.0), 2, (0.346926628, 0.763342051, 1.165120478)),
        ((1.0, 3.0), 1, (0.035842177, 0.044752480, 0.073396805)),
        ((1.0, 3.0), 2, (0.143972716, 0.213169137, 0.658483891)),
    ],
)
def test_hand_example(sigma, power, expected):
    head, distances = hand_head(sigma, power), f64([[1.0, 3.0]])
    losses = (theorem_radius, closed_radius, envelope_radius)
    for method, loss, value in zip(METHODS, losses, expected, strict=True):
        for target, sign in ((0, 1.0), (1, -1.0)):
            y = torch.tensor([target])
            radius = certified_radius(distances, head, y, method=method)
            assert radius.item() == pytest.approx(sign * value, abs=1e-9)
            signed = loss(distances, head, y)
            assert signed.item() == pytest.approx(sign * value, abs=1e-9)


def test_envelope_is_the_boundary_of_the_hand_example():
    head = hand_head((2.0, 2.0), 2)
    components = f64([[0.0], [4.0]])
    radius = certified_radius(f64([[1.0, 3.0]]), head, torch.tensor([0])).item()
    for step, winner in ((radius - 1e-9, 0), (radius + 1e-9, 1)):
        p = concept_scores(metric(f64([[1.0 + step]]), components), head)
        assert p.argmax().item() == winner


def test_robust_loss_of_the_paper():
    component = f64([0.0]).requires_grad_()
    distances = torch.stack([(1.0 - component).abs(), f64([3.0])], dim=1)
    distances = distances.expand(2, 2)
    radius = theorem_radius(distances, hand_head((2.0, 2.0), 1), torch.tensor([0, 1]))
    loss = (1.0 - radius).relu()
    assert loss.tolist() == pytest.approx([0.155901239, 1.844098761], abs=1e-9)
    (gradient,) = torch.autograd.grad(radius[0], component)
    assert gradient.item() == pytest.approx(0.294756428, abs=1e-9)


def test_convex_rbf_example():
    components = f64([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    weights = f64([[0.8, 0.1], [0.1, 0.8], [0.1, 0.1]])
    head = KernelHead.from_reasoning(weights, None, f64(2.0), power=1)
    distances, y = metric(f64([[0.5, 0.0]]), components), torch.tensor([0])
    assert concept_scores(distances, head)[0].tolist() == pytest.approx(
        [0.665015624, 0.320408433], abs=1e-9
    )
    for method, expected in zip(METHODS, (0.730213999, 1.0, 1.0), strict=True):
        radius = certified_radius(distances, head, y, method=method)
        assert radius.item() == pytest.approx(expected, abs=1e-9)


def test_free_rbf_example():
    weights, bias = f64([[1.5, -1.0], [-0.5, 2.0]]), f64([0.1, -0.2])
    head = KernelHead.from_weights(weights, bias, f64(2.0), power=1)
    distances, y = f64([[1.0, 3.0]]), torch.tensor([0])
    assert concept_scores(distances, head)[0].tolist() == pytest.approx(
        [0.898230909, -0.360270339], abs=1e-9
    )
    for method in METHODS[1:]:
        radius = certified_radius(distances, head, y, method=method)
        assert radius.item() == pytest.approx(1.324764702, abs=1e-9)
    with pytest.raises(ValueError, match="method='theorem' needs"):
        certified_radius(distances, head, y, method="theorem")


def test_lvq_examples():
    x, prototypes = f64([[1.0, 1.0]]), f64([[0.0, 0.0], [3.0, 4.0]])
    labels, y = torch.tensor([0, 1]), torch.tensor([0])
    margin = hypothesis_margin(metric(x, prototypes), labels, y)
    assert margin.item() == pytest.approx((13**0.5 - 2**0.5) / 2, abs=1e-12)
    assert bisector_radius(x, prototypes, labels, y).item() == pytest.approx(1.1)
    assert bisector_radius(x, prototypes, labels, 1 - y).item() == pytest.approx(-1.1)
    direction = f64([[0.6, 0.8]])
    assert metric(x + 1.0999 * direction, prototypes).argmin().item() == 0
    assert metric(x + 1.1001 * direction, prototypes).argmin().item() == 1

    omega = torch.diag(f64([0.8, 0.2]).sqrt())
    mapped = metric(x @ omega.T, prototypes @ omega.T)
    margin = hypothesis_margin(mapped, labels, y)
    assert margin.item() == pytest.approx(0.618034, abs=1e-6)
    plain = hypothesis_margin(mapped, labels, y, lipschitz=operator_norms(omega))
    assert plain.item() == pytest.approx(0.690983, abs=1e-6)
    for metric_map in (omega, omega.diagonal()):
        radius = bisector_radius(x, prototypes, labels, y, omega=metric_map)
        assert radius.item() == pytest.approx(0.790569, abs=1e-6)

    logs = -0.5 * metric(x, prototypes) ** 2
    assert logs.softmax(dim=1)[0, 0].item() == pytest.approx(0.995930, abs=1e-6)
    radius = mixture_radius(logs, prototypes, labels, y, variance=1.0)
    assert radius.item() == pytest.approx(1.1, abs=1e-9)


# ------------------------------------------------------------------ invariants


@st.composite
def models(draw, kinds=("cbc", "convex", "free")):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(2, 8)), draw(st.integers(2, 4))
    head = random_head(
        draw(st.sampled_from(kinds)),
        draw(st.sampled_from((1, 2))),
        draw(st.booleans()),
        generator,
        size=size,
        n_reasonings=draw(st.integers(1, 3)),
    )
    shape = (size[0], draw(st.integers(1, 5)))
    spread = draw(st.sampled_from((0.1, 1.5, 30.0)))
    components = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    x = spread * torch.randn(12, shape[1], generator=generator, dtype=torch.float64)
    return head, metric(x, components), generator


@settings(max_examples=60, deadline=None)
@given(models(kinds=("cbc", "convex")))
def test_methods_are_ordered(model):
    head, distances, _ = model
    best, y = class_scores(distances, head).max(dim=1)
    theorem, closed, envelope = (
        certified_radius(distances, head, y, method=method)[best > 1e-200]
        for method in METHODS
    )
    assert (theorem >= 0).all()
    assert (theorem <= closed).all()
    assert (closed <= envelope).all()


@settings(max_examples=60, deadline=None)
@given(models(), st.integers(0, 1))
def test_sign_is_that_of_the_margin(model, y):
    head, distances, _ = model
    target = torch.full((distances.shape[0],), y)
    scores = class_scores(distances, head)
    rivals = scores.scatter(1, target[:, None], -math.inf).amax(dim=1)
    margin = scores[:, y] - rivals
    clear = margin.abs() > 1e-12 * (1 + head.weights.abs().sum())
    results = [
        certified_radius(distances, head, target, method=method)
        for method in METHODS[head.positive is None :]
    ]
    results += [f(distances, head, target) for f in (closed_radius, envelope_radius)]
    for radius in results:
        assert not radius.isnan().any()
        assert (radius.sign() == margin.sign())[clear].all()


@settings(max_examples=30, deadline=None)
@given(models())
def test_order_of_components_and_concepts_does_not_matter(model):
    head, distances, generator = model
    y = class_scores(distances, head).argmax(dim=1)
    rows = torch.randperm(head.sigma.numel(), generator=generator)
    columns = torch.randperm(head.labels.numel(), generator=generator)
    names = torch.randperm(int(head.labels.max()) + 1, generator=generator)
    for method in METHODS[1:]:
        other = KernelHead.from_weights(
            head.weights[rows][:, columns],
            None if head.bias is None else head.bias[columns],
            head.sigma[rows],
            labels=names[head.labels[columns]],
            power=head.power,
        )
        before = certified_radius(distances, head, y, method=method)
        after = certified_radius(distances[:, rows], other, names[y], method=method)
        torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


def test_zero_negative_table_is_the_convex_network():
    generator = torch.Generator().manual_seed(0)
    convex = random_head("convex", 1, True, generator, size=(5, 3))
    table = KernelHead.from_reasoning(
        convex.positive, torch.zeros_like(convex.positive), convex.sigma, power=1
    )
    distances = 3 * torch.rand(20, 5, generator=generator, dtype=torch.float64)
    y = class_scores(distances, convex).argmax(dim=1)
    for method in METHODS:
        a = certified_radius(distances, convex, y, method=method)
        b = certified_radius(distances, table, y, method=method)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    p = class_scores(distances, convex).sort(dim=1).values
    official = certified_radius(distances, convex, y, method="theorem")
    expected = 0.5 * convex.sigma[0] * (p[:, -1] / p[:, -2]).log()
    torch.testing.assert_close(official, expected, rtol=1e-9, atol=1e-10)


def test_several_concepts_take_the_best_own_one_against_each_rival():
    generator = torch.Generator().manual_seed(1)
    head = random_head("cbc", 2, False, generator, size=(4, 2), n_reasonings=2)
    distances = 2 * torch.rand(30, 4, generator=generator, dtype=torch.float64)
    y = class_scores(distances, head).argmax(dim=1)
    for method in METHODS:
        radius = torch.full((2, 2, 30), math.nan, dtype=torch.float64)
        for i in range(2):
            for j in range(2):
                for c in range(2):
                    pair = [c + 2 * i, 1 - c + 2 * j]
                    single = KernelHead.from_reasoning(
                        head.positive[:, pair], head.negative[:, pair], head.sigma
                    )
                    here = y == c
                    radius[i, j, here] = certified_radius(
                        distances[here],
                        single,
                        torch.zeros(int(here.sum()), dtype=torch.long),
                        method=method,
                    )
        expected = radius.amax(dim=0).amin(dim=0)
        got = certified_radius(distances, head, y, method=method)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_tie_has_radius_zero():
    head = KernelHead.from_weights(f64([[1.0, 0.0], [0.0, 1.0]]), None, f64(2.0))
    for method in METHODS[1:]:
        for y in (0, 1):
            radius = certified_radius(
                f64([[1.3, 1.3]]), head, torch.tensor([y]), method=method
            )
            assert radius.item() == 0.0


def test_infinite_radius_when_no_point_can_change_the_class():
    head = KernelHead.from_weights(f64([[1.0, 0.5]]), f64([0.2, 0.0]), f64(1.0))
    distances = f64([[1.0]])
    assert certified_radius(distances, head, torch.tensor([0])).item() == math.inf
    assert certified_radius(distances, head, torch.tensor([1])).item() == -math.inf
    assert math.isfinite(
        certified_radius(distances, head, torch.tensor([0]), method="closed").item()
    )


@pytest.mark.parametrize("power", [1, 2])
def test_far_samples_do_not_underflow(power):
    components = f64([[0.0, 0.0], [3.0, 0.0]])
    head = KernelHead.from_reasoning(
        f64([[0.9, 0.2], [0.1, 0.8]]), None, f64(0.01), power=power
    )
    x = f64([[-40.0, 0.0], [1.4, 30.0], [1.6, 30.0]])
    y = torch.tensor([0, 0, 1])
    radius = certified_radius(metric(x, components), head, y)
    expected = (x[:, 0] - 1.5).abs()
    assert (radius > 0.001 * expected).all()
    assert (radius <= expected + 0.1).all()
    if power == 1:
        assert radius[0].item() > 1.4  # half the gap of the two distances


def test_float32_input_is_certified_in_float64():
    head64 = hand_head((2.0, 2.0), 2)
    head32 = KernelHead.from_reasoning(
        head64.positive.float(), head64.negative.float(), head64.sigma.float()
    )
    radius = certified_radius(torch.tensor([[1.0, 3.0]]), head32, torch.tensor([0]))
    assert radius.dtype == torch.float64
    assert radius.item() == pytest.approx(1.165120478, abs=1e-6)
    signed = envelope_radius(torch.tensor([[1.0, 3.0]]), head32, torch.tensor([0]))
    assert signed.dtype == torch.float32


def test_empty_batch():
    head = hand_head((2.0, 2.0), 2)
    for method in METHODS:
        radius = certified_radius(
            torch.zeros(0, 2), head, torch.zeros(0, dtype=torch.long), method=method
        )
        assert radius.shape == (0,)


# --------------------------------------------------------------------- attacks


def worst_direction(x, components, head, y):
    """Gradient of the margin of class y, normalised."""
    x = x.clone().requires_grad_()
    scores = class_scores(metric(x, components), head)
    rival = scores.scatter(1, y[:, None], -math.inf).amax(dim=1)
    (gradient,) = torch.autograd.grad(
        (rival - scores.gather(1, y[:, None])[:, 0]).sum(), x
    )
    return torch.nn.functional.normalize(gradient, dim=1)


def attack_directions(x, components, head, y, generator, n_random=250):
    random = torch.randn(
        x.shape[0], n_random, x.shape[1], generator=generator, dtype=torch.float64
    )
    toward = components - x[:, None, :]
    gradient = worst_direction(x, components, head, y)[:, None, :]
    noisy = gradient + 0.3 * random[:, :50]
    directions = torch.cat([random, toward, -toward, gradient, -gradient, noisy], dim=1)
    return torch.nn.functional.normalize(directions, dim=-1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("kind", ["cbc", "convex", "free"])
def test_no_attack_succeeds_within_the_radius(kind, power, shared):
    seed = 100 * power + 10 * shared + len(kind)
    generator = torch.Generator().manual_seed(seed)
    attacked = 0
    for number in range(15):
        size = 2 + number % 7, 2 + number % 3
        head = random_head(
            kind, power, shared, generator, size=size, n_reasonings=1 + number % 2
        )
        n_features = 1 + number % 5
        components = 1.5 * torch.randn(
            size[0], n_features, generator=generator, dtype=torch.float64
        )
        x = 1.5 * torch.randn(4, n_features, generator=generator, dtype=torch.float64)
        distances = metric(x, components)
        y = class_scores(distances, head).argmax(dim=1)
        radius = certified_radius(distances, head, y).clamp(max=100.0)
        directions = attack_directions(x, components, head, y, generator)
        for share in (0.999999, 0.7):
            moved = x[:, None] + share * radius[:, None, None] * directions
            scores = class_scores(metric(moved.flatten(0, 1), components), head)
            labels = scores.argmax(dim=1).view(moved.shape[:2])
            assert (labels == y[:, None]).all()
            attacked += labels.numel()
    assert attacked > 10_000


def test_losing_class_keeps_losing_within_the_radius():
    generator = torch.Generator().manual_seed(5)
    for power in (1, 2):
        head = random_head("cbc", power, False, generator, size=(6, 3))
        components = torch.randn(6, 3, generator=generator, dtype=torch.float64)
        x = torch.randn(20, 3, generator=generator, dtype=torch.float64)
        y = class_scores(metric(x, components), head).argmin(dim=1)
        radius = certified_radius(metric(x, components), head, y)
        assert (radius < 0).all()
        directions = attack_directions(x, components, head, y, generator)
        reach = radius.clamp(min=-100.0)
        moved = x[:, None] + 0.999999 * reach[:, None, None] * directions
        scores = class_scores(metric(moved.flatten(0, 1), components), head)
        assert (scores.argmax(dim=1).view(20, -1) != y[:, None]).all()


def lvq_model(seed, local):
    generator = torch.Generator().manual_seed(seed)
    n_features, n_prototypes, n_classes = 1 + seed % 4, 4 + seed % 5, 2 + seed % 3
    shape = (n_prototypes if local else 1, n_features, n_features)
    omega = torch.randn(shape, generator=generator, dtype=torch.float64)
    prototypes = torch.randn(
        n_prototypes, n_features, generator=generator, dtype=torch.float64
    )
    x = torch.randn(10, n_features, generator=generator, dtype=torch.float64)
    labels = torch.arange(n_prototypes) % n_classes
    directions = torch.nn.functional.normalize(
        torch.randn(10, 300, n_features, generator=generator, dtype=torch.float64),
        dim=-1,
    )
    return omega, prototypes, x, labels, directions


def omega_distances(x, prototypes, omega):
    return torch.einsum(
        "mlf,nmf->nml", omega.expand(len(prototypes), -1, -1), x[:, None] - prototypes
    ).norm(dim=-1)


def assert_label_stays(predict, x, radius, directions):
    y = predict(x)
    moved = x[:, None] + 0.999999 * radius[:, None, None] * directions
    assert (predict(moved.flatten(0, 1)).view(len(x), -1) == y[:, None]).all()


@pytest.mark.parametrize("seed", range(12))
def test_lvq_radii_withstand_attacks(seed):
    omega, prototypes, x, labels, directions = lvq_model(seed, local=False)

    def predict(points):
        return labels[omega_distances(points, prototypes, omega).argmin(dim=1)]

    y = predict(x)
    margin = hypothesis_margin(
        omega_distances(x, prototypes, omega),
        labels,
        y,
        lipschitz=operator_norms(omega[0]),
    )
    radius = bisector_radius(x, prototypes, labels, y, omega=omega[0])
    assert (margin > 0).all()
    assert (margin <= radius * (1 + 1e-9)).all()
    toward = torch.nn.functional.normalize(prototypes - x[:, None], dim=-1)
    assert_label_stays(predict, x, radius, torch.cat([directions, toward], dim=1))


@pytest.mark.parametrize("seed", range(12))
def test_local_margin_withstands_attacks(seed):
    omega, prototypes, x, labels, directions = lvq_model(seed, local=True)

    def predict(points):
        return labels[omega_distances(points, prototypes, omega).argmin(dim=1)]

    radius = hypothesis_margin(
        omega_distances(x, prototypes, omega),
        labels,
        predict(x),
        lipschitz=operator_norms(omega),
    )
    assert (radius > 0).all()
    assert_label_stays(predict, x, radius, directions)


@pytest.mark.parametrize("seed", range(12))
def test_mixture_radius_withstands_attacks(seed):
    omega, prototypes, x, labels, directions = lvq_model(seed, local=False)
    n_classes = int(labels.max()) + 1

    def log_mixtures(points):
        logs = -(omega_distances(points, prototypes, omega) ** 2) / (2 * 0.7)
        own = labels == torch.arange(n_classes)[:, None]
        return logs[:, None, :].masked_fill(~own, -math.inf).logsumexp(dim=2)

    def predict(points):
        return log_mixtures(points).argmax(dim=1)

    radius = mixture_radius(
        log_mixtures(x), prototypes, labels, predict(x), variance=0.7, omega=omega[0]
    )
    assert (radius > 0).all()
    assert_label_stays(predict, x, radius, directions)


def test_bisector_is_exact_for_one_prototype_per_class():
    generator = torch.Generator().manual_seed(3)
    prototypes = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    labels = torch.arange(5)
    distances = metric(x, prototypes)
    y = distances.argmin(dim=1)
    radius = bisector_radius(x, prototypes, labels, y)
    step = prototypes[:, None] - prototypes
    flat = (distances**2)[:, None, :] - (distances**2)[:, :, None]
    each = (flat / (2 * step.norm(dim=-1)))[torch.arange(50), y]
    each[torch.arange(50), y] = math.inf
    torch.testing.assert_close(radius, each.amin(dim=1), rtol=1e-10, atol=1e-12)
    direction = step[each.argmin(dim=1), y]
    direction = torch.nn.functional.normalize(direction, dim=1)
    moved = x + 1.000001 * radius[:, None] * direction
    assert (metric(moved, prototypes).argmin(dim=1) != y).all()


def test_coinciding_prototypes_of_two_classes_have_radius_zero():
    prototypes = f64([[0.0, 1.0], [0.0, 1.0], [3.0, 0.0]]).requires_grad_()
    labels = torch.tensor([0, 1, 1])
    x, y = f64([[0.3, 0.4]]), torch.tensor([0])
    radius = bisector_radius(x, prototypes, labels, y)
    assert radius.item() == 0.0
    (gradient,) = torch.autograd.grad(radius.sum(), prototypes)
    assert gradient.isfinite().all()


def test_bisector_and_mixture_gradients():
    generator = torch.Generator().manual_seed(8)
    prototypes, x, omega = (
        torch.randn(n, 3, generator=generator, dtype=torch.float64).requires_grad_()
        for n in (4, 6, 2)
    )
    labels, y = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 2, 0, 1, 2])

    def bisector(x, prototypes, omega):
        return bisector_radius(x, prototypes, labels, y, omega=omega)

    def margin(x, prototypes):
        return hypothesis_margin(metric(x, prototypes), labels, y)

    assert torch.autograd.gradcheck(bisector, (x, prototypes, omega))
    assert torch.autograd.gradcheck(margin, (x, prototypes))


# ------------------------------------------------------------------- gradients


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("kind", ["cbc", "convex", "free"])
def test_envelope_gradient_is_that_of_finite_differences(kind, power):
    generator = torch.Generator().manual_seed(20 + power)
    made = random_head(kind, power, False, generator, size=(5, 3), n_reasonings=2)
    components = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    x = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    y = torch.arange(8) % 3
    bias = torch.zeros(6, dtype=torch.float64) if made.bias is None else made.bias

    def radius(x, components, weights, bias, sigma):
        head = KernelHead.from_weights(
            weights, bias, sigma, labels=made.labels, power=power
        )
        return envelope_radius(
            metric(x, components), head, y, max_radius=60.0, n_steps=70
        )

    inputs = (x, components, made.weights, bias, made.sigma)
    inputs = tuple(value.clone().requires_grad_() for value in inputs)
    result = radius(*inputs)
    assert result.min() < 0 < result.max()
    steep = result.abs() < 4.0  # flatter ones have their slope raised
    assert steep.sum() >= 5

    def chosen(*values):
        return radius(*values)[steep]

    assert torch.autograd.gradcheck(chosen, inputs, eps=1e-6, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("power", [1, 2])
def test_closed_losses_have_the_gradient_of_finite_differences(power):
    generator = torch.Generator().manual_seed(9)
    made = random_head("cbc", power, False, generator, size=(4, 3))
    distances = 0.2 + torch.rand(9, 4, generator=generator, dtype=torch.float64)
    y = torch.arange(9) % 3
    inputs = (distances, made.positive, made.negative, made.sigma)
    inputs = tuple(value.clone().requires_grad_() for value in inputs)
    for loss in (theorem_radius, closed_radius):

        def radius(distances, positive, negative, sigma, loss=loss):
            head = KernelHead.from_reasoning(positive, negative, sigma, power=power)
            return loss(distances, head, y)

        assert torch.autograd.gradcheck(radius, inputs)


EDGE_CASES = {
    "sample on a component": ([[0.0, 3.0]], [[0.9, 0.2], [0.1, 0.8]], None),
    "tie": ([[1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]),
    "identical concepts": ([[1.0, 2.0]], [[0.5, 0.5], [0.5, 0.5]], [0.1, 0.1]),
    "certain": ([[1.0, 2.0]], [[0.9, 0.1], [0.5, 0.3]], [0.5, 0.0]),
    "underflow": ([[1e3, 2e3]], [[0.9, 0.2], [0.1, 0.8]], None),
    "underflow with bias": ([[1e3, 2e3]], [[0.9, 0.2], [0.1, 0.8]], [0.0, 0.0]),
    "zero weights": ([[1.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("name", EDGE_CASES)
def test_losses_and_gradients_are_finite_at_the_edges(name, power, dtype):
    distances, weights, bias = (
        None if v is None else torch.tensor(v, dtype=dtype, requires_grad=True)
        for v in EDGE_CASES[name]
    )
    sigma = torch.tensor([0.5, 2.0], dtype=dtype, requires_grad=True)
    inputs = [v for v in (distances, weights, bias, sigma) if v is not None]
    for loss in (closed_radius, envelope_radius):
        for y in (0, 1):
            head = KernelHead.from_weights(weights, bias, sigma, power=power)
            radius = loss(distances, head, torch.tensor([y]))
            assert radius.isfinite().all()
            gradients = torch.autograd.grad(radius.sum(), inputs, allow_unused=True)
            assert all(g is None or g.isfinite().all() for g in gradients)


def test_capped_loss_still_points_the_right_way():
    bias = f64([1.0, 0.0]).requires_grad_()
    head = KernelHead.from_weights(f64([[0.1, 0.2]]), bias, f64(1.0), power=1)
    radius = envelope_radius(f64([[1.0]]), head, torch.tensor([1]), max_radius=3.0)
    assert radius.item() == -3.0
    (gradient,) = torch.autograd.grad(radius.sum(), bias)
    assert gradient[0].item() < 0 < gradient[1].item()


def test_loss_works_without_gradients():
    head = hand_head((2.0, 2.0), 2)
    with torch.no_grad():
        radius = envelope_radius(f64([[1.0, 3.0]]), head, torch.tensor([0]))
    assert radius.item() == pytest.approx(1.165120478, abs=1e-9)
    assert not radius.requires_grad


# ------------------------------------------------------------ helpers and errors


def test_norm_conversion():
    radius = f64([1.0])
    assert convert_norm(radius, 9, 2, 2).item() == 1.0
    assert convert_norm(radius, 9, 2, 1).item() == 1.0
    assert convert_norm(radius, 9, 2, math.inf).item() == pytest.approx(1 / 3)
    assert convert_norm(radius, 9, math.inf, 2).item() == 1.0
    assert convert_norm(radius, 9, 1, 2).item() == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="attack_norm must be at least 1"):
        convert_norm(radius, 9, 2, 0.5)


def test_input_units():
    assert input_radius(f64([2.0, 4.0]), f64([0.5, 3.0])).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="scale must be positive"):
        input_radius(f64([1.0]), f64([1.0, 0.0]))


def test_rows_per_chunk():
    head = hand_head((2.0, 2.0), 2)
    assert rows_per_chunk(head, max_bytes=1) == 1
    assert rows_per_chunk(head) > rows_per_chunk(head, n_own=2) > 1000


def test_bad_input_is_named():
    head, distances, y = hand_head((2.0, 2.0), 2), f64([[1.0, 3.0]]), torch.tensor([0])
    with pytest.raises(ValueError, match="method must be"):
        certified_radius(distances, head, y, method="exact")
    with pytest.raises(ValueError, match="distances must have shape"):
        certified_radius(distances[:, :1], head, y)
    with pytest.raises(ValueError, match="distances must not be negative"):
        certified_radius(-distances, head, y)
    with pytest.raises(ValueError, match="target must name classes"):
        certified_radius(distances, head, torch.tensor([2]))
    with pytest.raises(ValueError, match="sigma must be positive"):
        certified_radius(distances, hand_head((2.0, 0.0), 2), y)
    with pytest.raises(ValueError, match="power must be 1 or 2"):
        hand_head((2.0, 2.0), 3)
    with pytest.raises(ValueError, match="sigma must have shape"):
        hand_head((2.0, 2.0, 2.0), 2)
    with pytest.raises(ValueError, match="max_radius must be positive"):
        envelope_radius(distances, head, y, max_radius=0.0)
    signed = KernelHead.from_reasoning(-head.positive, head.negative, head.sigma)
    with pytest.raises(ValueError, match="positive must not be negative"):
        certified_radius(distances, signed, y, method="theorem")
    with pytest.raises(ValueError, match="at least two classes"):
        hypothesis_margin(distances, torch.tensor([0, 0]), y)
    with pytest.raises(ValueError, match="omega must be"):
        bisector_radius(
            f64([[1.0]]), f64([[0.0], [1.0]]), torch.tensor([0, 1]), y, omega=f64(1.0)
        )
