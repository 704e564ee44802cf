"""LVQ module: worked numbers, gradients, invariances and log-space posteriors."""

import math

import pytest
import torch

from skproto.nn import (
    CertifiedDistance,
    DistanceMargin,
    LVQMetric,
    LVQNetwork,
    NegativeLogLikelihood,
    RelativeDistance,
    SiteEncoder,
)
from skproto.nn.certificates import (
    bisector_radius,
    hypothesis_margin,
    mixture_radius,
)
from skproto.nn.lvq_losses import metric_stretch, negative_log_determinant

METRICS = ("euclidean", "relevance", "matrix", "local-matrix")
X = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
POINTS = [[0.0, 0.0], [3.0, 4.0]]


def network(labels, points, metric="euclidean", n_classes=None, **settings):
    points = torch.as_tensor(points, dtype=torch.float64)
    n_classes = max(labels) + 1 if n_classes is None else n_classes
    net = LVQNetwork(labels, points.shape[1], n_classes, metric, **settings).double()
    with torch.no_grad():
        net.prototypes.copy_(points)
    return net


def random_network(seed, metric, labels=(0, 0, 1, 1, 2), dim=4, **settings):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(len(labels), dim, generator=generator, dtype=torch.float64)
    net = network(list(labels), points, metric, **settings)
    with torch.no_grad():
        for parameter in net.metric.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    x = torch.randn(12, dim, generator=generator, dtype=torch.float64)
    y = torch.randint(int(max(labels)) + 1, (12,), generator=generator)
    return net, x, y


# Worked numbers: x = (1, 1) between (0, 0) of its class and (3, 4) of another


def test_relative_distance_and_its_gradient():
    net = network([0, 1], POINTS)
    outputs = net(X)
    assert outputs["squared_distances"].tolist() == [[2.0, 13.0]]
    mu = RelativeDistance("identity")(outputs, torch.tensor([0]), net)
    assert mu.item() == pytest.approx(-11 / 15, abs=1e-12)
    mu.sum().backward()
    expected = [[-0.231111, -0.231111], [-0.071111, -0.106667]]
    torch.testing.assert_close(
        net.prototypes.grad, torch.tensor(expected).double(), atol=1e-6, rtol=0
    )


def test_relative_distance_in_a_metric_and_the_gradient_of_the_matrix():
    net = network([0, 1], POINTS, "matrix")
    # Trace of Lambda 1: normalising changes nothing, and the gradient is projected
    # onto the directions that keep the norm.
    omega = torch.tensor([[0.8, 0.0], [0.0, 0.2]], dtype=torch.float64).sqrt()
    with torch.no_grad():
        net.metric.matrix.copy_(omega)
    outputs = net(X)
    torch.testing.assert_close(
        outputs["squared_distances"], torch.tensor([[1.0, 5.0]]).double()
    )
    mu = RelativeDistance("identity")(outputs, torch.tensor([0]), net)
    assert mu.item() == pytest.approx(-2 / 3, abs=1e-12)
    mu.sum().backward()
    free = torch.tensor([[0.0993808, -0.0993808], [-0.0496904, -0.1987616]]).double()
    tangent = free - (free * omega).sum() * omega
    torch.testing.assert_close(net.metric.matrix.grad, tangent, atol=1e-6, rtol=0)
    # mu does not depend on the scale of Omega, so the free gradient is tangent.
    torch.testing.assert_close(free, tangent, atol=1e-6, rtol=0)


def test_certificates_of_the_worked_point():
    net, y = network([0, 1], POINTS), torch.tensor([0])
    distances = net(X)["squared_distances"].sqrt()
    margin = hypothesis_margin(distances, net.labels, y)
    assert margin.item() == pytest.approx(1.095669, abs=1e-6)
    radius = bisector_radius(X, net.prototypes, net.labels, y)
    assert radius.item() == pytest.approx(1.1, abs=1e-9)
    direction = torch.tensor([[3.0, 4.0]], dtype=torch.float64) / 5
    for step, label in ((1.0999, 0), (1.1001, 1)):
        assert net(X + step * direction)["scores"].argmax().item() == label


def test_certificates_of_the_worked_point_in_a_metric():
    net, y = network([0, 1], POINTS, "matrix"), torch.tensor([0])
    with torch.no_grad():
        net.metric.matrix.copy_(torch.tensor([[0.8, 0.0], [0.0, 0.2]]).sqrt())
    distances, omega = net(X)["squared_distances"].sqrt(), net.metric.omega()
    margin = hypothesis_margin(distances, net.labels, y)
    assert margin.item() == pytest.approx(0.618034, abs=1e-6)
    stretch = metric_stretch(net.metric)
    margin = hypothesis_margin(distances, net.labels, y, lipschitz=stretch)
    assert margin.item() == pytest.approx(0.690983, abs=1e-6)
    radius = bisector_radius(X, net.prototypes, net.labels, y, omega=omega)
    assert radius.item() == pytest.approx(0.790569, abs=1e-6)


def test_posterior_and_radius_of_the_worked_point():
    net = network([0, 1], POINTS, mixture=True)
    outputs = net(X)
    assert outputs["scores"][0, 0].item() == pytest.approx(0.995930, abs=1e-6)
    radius = mixture_radius(
        outputs["log_scores"],
        net.prototypes,
        net.labels,
        torch.tensor([0]),
        variance=net.variance,
    )
    assert radius.item() == pytest.approx(1.1, abs=1e-9)


@pytest.mark.parametrize("norm", [1.0, 1.5, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("kind", ["bisector", "mixture"])
def test_radii_in_any_norm_withstand_changes(norm, kind):
    net, x, _ = random_network(3, "matrix", mixture=kind == "mixture")
    outputs = net(x)
    y = outputs["scores"].argmax(1)
    if kind == "bisector":
        radius = bisector_radius(
            x, net.prototypes, net.labels, y, omega=net.metric.omega(), norm=norm
        )
    else:
        radius = mixture_radius(
            outputs["log_scores"],
            net.prototypes,
            net.labels,
            y,
            variance=net.variance,
            omega=net.metric.omega(),
            norm=norm,
        )
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(2000, 1, 4, generator=generator, dtype=torch.float64)
    if norm == math.inf:
        steps = torch.cat([steps, steps.sign()])
    steps = steps / torch.linalg.vector_norm(steps, ord=norm, dim=-1, keepdim=True)
    moved = x + 0.999999 * radius.detach()[:, None] * steps
    labels = net(moved.flatten(0, 1))["scores"].argmax(1).view(len(steps), -1)
    assert bool((labels == y).all())


def test_bisector_in_another_norm_is_exact_for_one_prototype_per_class():
    radius = bisector_radius(
        X,
        torch.tensor(POINTS),
        torch.tensor([0, 1]),
        torch.tensor([0]),
        norm=math.inf,
    )
    assert radius.item() == pytest.approx(11 / 14)
    with pytest.raises(ValueError, match=r"norm must be at least 1, got 0\.5"):
        bisector_radius(
            X, torch.tensor(POINTS), torch.tensor([0, 1]), torch.tensor([0]), norm=0.5
        )


# Gradients


TERMS = {
    "identity": RelativeDistance("identity"),
    "sigmoid": RelativeDistance("sigmoid", 10.0),
    "margin": DistanceMargin(3.0),
    "robust margin": CertifiedDistance(1.0, "margin"),
    "robust bisector": CertifiedDistance(1.0, "bisector"),
    "likelihood": NegativeLogLikelihood(),
}


class Objective(torch.nn.Module):
    def __init__(self, net, term, y):
        super().__init__()
        self.net, self.term, self.y = net, term, y

    def forward(self, x):
        return self.term(self.net(x), self.y, self.net)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("term", TERMS)
def test_gradients_match_finite_differences(metric, term):
    if metric == "local-matrix" and term == "robust bisector":
        term = "robust margin"  # the bisectors of local metrics are curved
    net, x, y = random_network(5, metric, mixture=term == "likelihood")
    objective = Objective(net, TERMS[term], y)
    parameters = dict(objective.named_parameters())

    def loss(*values):
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(objective, named, (x,))

    values = tuple(p.detach().clone().requires_grad_() for p in parameters.values())
    assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS[1:])
def test_log_determinant_penalty(metric):
    net, _, _ = random_network(1, metric)
    omega = net.metric.omega()
    omega = torch.diag(omega) if omega.ndim == 1 else omega
    expected = -torch.logdet(omega @ omega.mT).mean()
    penalty = negative_log_determinant(net)
    torch.testing.assert_close(penalty, expected)
    penalty.backward()
    assert all(p.grad.isfinite().all() for p in net.metric.parameters())


# Metrics


@pytest.mark.parametrize("metric", METRICS)
def test_distances_follow_their_definition(metric):
    net, x, _ = random_network(7, metric, n_components=3)
    if metric in ("euclidean", "relevance"):
        net, x, _ = random_network(7, metric)
    omega = net.metric.omega()
    difference = x[:, None, :] - net.prototypes
    if omega is None:
        expected = difference.square().sum(-1)
    elif omega.ndim == 1:
        expected = (omega**2 * difference.square()).sum(-1)
    else:
        expected = (omega @ difference[..., None]).squeeze(-1).square().sum(-1)
    for exact in (False, True):
        found = net.from_sites(x[:, None, :], exact=exact)["squared_distances"]
        torch.testing.assert_close(found, expected)
    if omega is not None:
        relevances = net.metric.relevances()
        assert relevances.sum().item() == pytest.approx(1)
        assert bool((relevances >= 0).all())


@pytest.mark.parametrize("metric", METRICS)
def test_scores_follow_from_the_distances(metric):
    labels = (0, 2, 1, 0, 2, 2)  # in no order, and of different numbers
    net, x, _ = random_network(2, metric, labels=labels)
    outputs = net(x)
    codes = torch.tensor(labels)
    for c in range(3):
        own = outputs["squared_distances"][:, codes == c].amin(1)
        other = outputs["squared_distances"][:, codes != c].amin(1)
        torch.testing.assert_close(
            outputs["scores"][:, c], (other - own) / (other + own)
        )
    nearest = codes[outputs["squared_distances"].argmin(1)]
    assert torch.equal(outputs["scores"].argmax(1), nearest)


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("labels", [(0, 0, 1, 1, 2), (0, 2, 1, 0, 2, 2), (1, 0)])
def test_light_prediction_has_the_same_bits(labels, mixture):
    net, x, _ = random_network(3, "euclidean", labels=labels, mixture=mixture)
    with torch.no_grad():
        outputs, light = net(x), net.predict(x)
    assert {"scores", "nearness"} < set(light) < set(outputs)
    assert all(torch.equal(value, outputs[key]) for key, value in light.items())
    torch.testing.assert_close(net(x)["scores"].detach(), outputs["scores"])


def test_unknown_metric_is_named():
    with pytest.raises(ValueError, match=r"metric must be one of .* Got 'cosine'"):
        LVQMetric(2, "cosine")


@pytest.mark.parametrize("metric", ["relevance", "matrix", "local-matrix"])
def test_uniform_metric_equals_the_euclidean_one(metric):
    plain, x, _ = random_network(4, "euclidean")
    other = network(plain.labels.tolist(), plain.prototypes.detach(), metric)
    torch.testing.assert_close(
        other(x)["squared_distances"], plain(x)["squared_distances"] / x.shape[1]
    )
    torch.testing.assert_close(other(x)["scores"], plain(x)["scores"])


@pytest.mark.parametrize("mixture", [False, True])
def test_shift_rotation_and_scale(mixture):
    net, x, _ = random_network(6, "euclidean", mixture=mixture)
    scores = net(x)["scores"]
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q

    def scored(move):
        moved = network(
            net.labels.tolist(), move(net.prototypes.detach()), mixture=mixture
        )
        return moved(move(x))["scores"]

    torch.testing.assert_close(scored(lambda v: v + 3.7), scores)
    torch.testing.assert_close(scored(lambda v: v @ rotation), scores)
    if not mixture:
        torch.testing.assert_close(scored(lambda v: 2.5 * v), scores)


def test_scale_of_the_matrix_does_not_matter():
    net, x, _ = random_network(6, "matrix")
    before = net(x)["squared_distances"]
    with torch.no_grad():
        net.metric.matrix.mul_(7.0)
    torch.testing.assert_close(net(x)["squared_distances"], before)


# Numerics


def test_coincident_prototypes_of_two_classes_score_zero():
    net = network([0, 1], [[1.0, 1.0], [1.0, 1.0]])
    outputs = net(X)
    assert outputs["scores"].tolist() == [[0.0, 0.0]]
    RelativeDistance()(outputs, torch.tensor([0]), net).sum().backward()
    assert bool(net.prototypes.grad.isfinite().all())


def test_class_without_prototypes_never_wins():
    net = network([0, 2], POINTS, n_classes=3)
    scores = net(X)["scores"][0]
    assert scores[1].item() == -1
    assert scores.argmax().item() == 0


def test_posterior_far_away_is_still_a_distribution():
    net, x, _ = random_network(8, "euclidean", mixture=True)
    outputs = net(x + 1e3)
    assert outputs["squared_distances"].min() > 1e4
    total = outputs["scores"].sum(1)
    torch.testing.assert_close(total, torch.ones(12).double(), atol=1e-12, rtol=0)
    assert outputs["log_responsibilities"].isfinite().all()


def test_float32_decides_far_samples_like_float64():
    net, x, _ = random_network(9, "euclidean")
    far = x * 1e5
    exact = net(far)["scores"]
    rough = net.float()(far.float())["scores"]
    assert torch.equal(rough.argmax(1), exact.argmax(1))


def test_exact_distances_do_not_cancel():
    net = network([0, 1], [[1e4, 1.0], [1e4, 2.0]]).float()
    sites = torch.tensor([[[1e4, 1.0]]])
    outputs = net(sites[:, 0])
    assert outputs["nearness"].item() < 1e-6
    exact = net.from_sites(sites.double(), exact=True)["squared_distances"]
    assert exact.dtype == torch.float64
    assert exact.tolist() == [[0.0, 1.0]]


# Module


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mixture", [False, True])
def test_state_rebuilds_the_module(metric, mixture):
    net, x, _ = random_network(1, metric, mixture=mixture)
    again = LVQNetwork(**net.config).double()
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(again(x)["scores"], net(x)["scores"])


@pytest.mark.parametrize("metric", METRICS)
def test_keep_drops_prototypes(metric):
    net, x, _ = random_network(1, metric)
    kept = torch.tensor([True, False, True, True, True])
    smaller = net.keep(kept)
    assert smaller.labels.tolist() == [0, 1, 1, 2]
    torch.testing.assert_close(
        smaller(x)["squared_distances"], net(x)["squared_distances"][:, kept]
    )


@pytest.mark.parametrize("metric", METRICS)
def test_nearest_site_counts(metric):
    body = torch.nn.Unflatten(1, (2, 2))
    labels = [0, 1, 1]
    net = network(labels, torch.randn(3, 2).double(), metric, encoder=SiteEncoder(body))
    x = torch.randn(6, 4, dtype=torch.float64)
    outputs = net(x)
    single = network(labels, net.prototypes.detach(), metric)
    single.metric.load_state_dict(net.metric.state_dict())
    each = torch.stack(
        [single(x[:, i : i + 2])["squared_distances"] for i in (0, 2)]
    ).amin(0)
    torch.testing.assert_close(outputs["squared_distances"], each)
    exact = net.from_sites(net.encoder(x), exact=True)["squared_distances"]
    torch.testing.assert_close(exact, each)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mixture", [False, True])
def test_export_with_any_number_of_rows(metric, mixture):
    net, _, _ = random_network(1, metric, labels=(0, 0, 1, 2), mixture=mixture)
    net = net.float().eval()
    rows = torch.export.Dim("rows", min=2, max=4096)
    program = torch.export.export(
        net, (torch.randn(5, 4),), dynamic_shapes={"x": {0: rows}}
    )
    x = torch.randn(17, 4)
    torch.testing.assert_close(program.module()(x)["scores"], net(x)["scores"])
