"""The net, phases and callbacks, on a plain linear module."""

import dataclasses
import pickle

import numpy as np
import pytest
import skorch
import torch
from torch import nn
from torch.nn import functional

from skproto.training import (
    Annealing,
    BatchDataset,
    Convergence,
    HeldOutStopping,
    Phase,
    ProgressLine,
    TrainingData,
    history_frame,
    make_net,
    run_phases,
)


class Linear(nn.Module):
    def __init__(self, n_features=4, n_classes=3):
        super().__init__()
        self.body = nn.Linear(n_features, n_features)
        self.head = nn.Linear(n_features, n_classes)

    def forward(self, x):
        return {"scores": self.head(self.body(x))}


class Likelihood:
    name, weight = "likelihood", 1.0

    def __call__(self, outputs, target, module):
        return functional.cross_entropy(outputs["scores"], target, reduction="none")


class Decay:
    name, weight = "decay", 0.01

    def __call__(self, outputs, target, module):
        return sum(p.square().sum() for p in module.parameters())


def make_data(n_samples=60, seed=0):
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % 3
    X = (rng.randn(n_samples, 4) + np.eye(3, 4)[y] * 2).astype(np.float32)
    weight = np.ones(n_samples)
    return TrainingData(X, y, weight, np.arange(n_samples), 3, rng)


def train(*phases, terms=None, data=None, held_out=None, module=None, **kwargs):
    torch.manual_seed(0)
    module = module or Linear()
    net = make_net(
        module,
        terms or [Likelihood(), Decay()],
        iterator_train__generator=torch.Generator().manual_seed(0),
        **{"batch_size": 20, **kwargs},
    )
    run_phases(net, phases, BatchDataset(data or make_data()), held_out)
    return net


def test_history_has_a_row_an_epoch_and_a_column_a_term():
    net = train(Phase("first", 2, 0.1), Phase("second", 3, 0.1))
    frame = history_frame(net)
    assert frame["phase"].tolist() == ["first"] * 2 + ["second"] * 3
    assert {"epoch", "train_loss", "likelihood", "decay"} <= set(frame.columns)
    total = frame["likelihood"] + 0.01 * frame["decay"]
    np.testing.assert_allclose(frame["train_loss"], total, rtol=1e-5)


@pytest.mark.parametrize("solver", ["lbfgs", "adam", "adamw"])
def test_every_solver_lowers_the_loss(solver):
    frame = history_frame(train(Phase("joint", 20, 0.05, solver)))
    assert frame["train_loss"].iloc[-1] < 0.7 * frame["train_loss"].iloc[0]


def test_lbfgs_never_raises_the_loss():
    losses = history_frame(train(Phase("joint", 30, 1.0, "lbfgs")))["train_loss"]
    assert (losses.diff().dropna() <= 1e-6).all()


def test_lbfgs_in_single_iterations_equals_one_call_of_torch():
    data = make_data()
    net = train(Phase("joint", 12, 1.0, "lbfgs"), data=data)
    torch.manual_seed(0)
    module = Linear()
    optimizer = torch.optim.LBFGS(
        module.parameters(),
        max_iter=12,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
    )
    x, (y, _) = BatchDataset(data).whole()

    def closure():
        optimizer.zero_grad()
        loss = Likelihood()(module(x), y, module).mean()
        loss = loss + 0.01 * Decay()(None, None, module)
        loss.backward()
        return loss

    optimizer.step(closure)
    for ours, plain in zip(net.module_.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


def test_lbfgs_does_not_evaluate_a_point_twice():
    calls = []

    class Counted(Likelihood):
        def __call__(self, outputs, target, module):
            weight = module.head.weight.detach().numpy()
            calls.append(weight.tobytes())
            return super().__call__(outputs, target, module)

    train(Phase("joint", 10, 1.0, "lbfgs"), terms=[Counted()])
    assert len(calls) == len(set(calls))


def test_a_trial_step_without_finite_loss_is_backed_off():
    class Fragile(Likelihood):
        def __call__(self, outputs, target, module):
            far = module.head.weight.detach().abs().max() > 1.0
            value = super().__call__(outputs, target, module)
            return value * torch.where(far, torch.nan, 1.0)

    net = train(Phase("joint", 10, 1.0, "lbfgs"), terms=[Fragile()])
    assert float(net.module_.head.weight.detach().abs().max()) <= 1.0


def test_phases_move_only_what_they_name():
    module = Linear()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    train(Phase("head", 3, 0.1, trainable=("head",)), module=module)
    assert torch.equal(module.body.weight, before["body.weight"])
    assert not torch.equal(module.head.weight, before["head.weight"])
    assert all(p.requires_grad for p in module.parameters())


def test_groups_have_their_own_learning_rate():
    module = Linear()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    train(Phase("joint", 3, 0.1, group_lr={"body": 0.0}), module=module)
    assert torch.equal(module.body.weight, before["body.weight"])
    assert not torch.equal(module.head.weight, before["head.weight"])


def test_non_finite_loss_at_the_start_blames_the_input():
    data = make_data()
    data.X[:] = 3e38
    with pytest.raises(ValueError, match=r"'likelihood' became .* epoch 1: .* input"):
        train(Phase("joint", 5, 0.1), data=data)


def test_non_finite_loss_later_blames_the_learning_rate():
    with pytest.raises(ValueError, match=r"became .* in epoch \d+: .*\(lr=1e\+36\)"):
        train(Phase("joint", 5, 1e36))


def test_weights_enter_the_loss():
    data = make_data()
    weight = np.where(data.y == 0, 3.0, 0.0)
    weighted = TrainingData(data.X, data.y, weight, data.rows, 3, data.rng)
    net = train(Phase("joint", 0, 0.1))
    batch = BatchDataset(weighted).whole()
    net.initialize()
    with torch.no_grad():
        loss = net.validation_step(batch)["terms"]["likelihood"]
    own = BatchDataset(data.subset(np.flatnonzero(data.y == 0))).whole()
    with torch.no_grad():
        expected = net.validation_step(own)["terms"]["likelihood"]
    torch.testing.assert_close(loss, expected)


def test_early_stopping_restores_the_best_weights():
    held_out = BatchDataset(make_data(30, seed=5))
    net = train(
        Phase("joint", 200, 0.3), held_out=held_out, callbacks=[HeldOutStopping(5)]
    )
    frame = history_frame(net)
    assert len(frame) < 200
    with torch.no_grad():
        final = float(net.validation_step(held_out.whole())["loss"])
    assert final == pytest.approx(frame["valid_loss"].min(), rel=1e-3)


def test_convergence_ends_a_phase():
    phase = Phase("joint", 500, 1.0, "lbfgs", callbacks=(Convergence(),))
    assert len(history_frame(train(phase))) < 500


def test_interruption_keeps_what_was_learned():
    class Slow(Likelihood):
        def __call__(self, outputs, target, module):
            if len(net.history) == 3:
                raise KeyboardInterrupt
            return super().__call__(outputs, target, module)

    net = make_net(Linear(), [Slow()], batch_size=20)
    with pytest.warns(UserWarning, match="interrupted after 3 epochs"):
        finished = run_phases(net, [Phase("joint", 9, 0.1)], BatchDataset(make_data()))
    assert not finished
    assert not net.module_.training


def test_skorch_early_stopping_is_no_interruption():
    stop = skorch.callbacks.EarlyStopping(monitor="train_loss", patience=2)
    net = train(Phase("joint", 300, 0.3), net_params={"callbacks": [stop]})
    assert len(net.history) < 300


def test_net_params_have_the_last_word():
    net = train(
        Phase("joint", 2, 0.1),
        net_params={"optimizer__weight_decay": 0.5, "batch_size": 7},
    )
    assert net.optimizer_.param_groups[0]["weight_decay"] == 0.5
    assert net.history[0, "train_batch_count"] == 9


class Pixels(Linear):
    """A linear module on images (n, 1, 2, 2) that notes how they lie in memory."""

    def forward(self, x):
        assert x.is_contiguous(memory_format=torch.channels_last)
        return super().forward(x.flatten(1))


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize(
    "compiled", [{}, {"compile": True, "compile__backend": "eager"}]
)
def test_options_of_the_device_give_nearly_the_same_model(autocast, compiled):
    data = make_data()
    images = dataclasses.replace(data, X=data.X.reshape(-1, 1, 2, 2))
    options = {"autocast": autocast, "channels_last": True, **compiled}
    phases = Phase("head", 3, 0.05, trainable=("head",)), Phase("joint", 3, 0.05)
    plain = train(*phases, data=data)
    torch.manual_seed(0)
    net = train(*phases, data=images, module=Pixels(), **options)
    atol = 1e-6 if autocast is None else 0.02
    for name, value in plain.module_.state_dict().items():
        torch.testing.assert_close(
            net.module_.state_dict()[name], value, rtol=0, atol=atol
        )
    pickle.loads(pickle.dumps(net))


def test_any_torch_data_loader_works():
    net = train(
        Phase("joint", 2, 0.1),
        net_params={"iterator_train": torch.utils.data.DataLoader},
    )
    assert np.isfinite(net.history[:, "train_loss"]).all()


def test_learning_rate_schedulers_work():
    scheduler = skorch.callbacks.LRScheduler("StepLR", step_size=1, gamma=0.1)
    net = train(Phase("joint", 3, 0.1), net_params={"callbacks": [scheduler]})
    assert net.optimizer_.param_groups[0]["lr"] == pytest.approx(1e-4)


class Rates(skorch.callbacks.Callback):
    """Note the learning rates at the start of every epoch."""

    def __init__(self):
        self.seen = []

    def on_epoch_begin(self, net, **kwargs):
        self.seen.append([group["lr"] for group in net.optimizer_.param_groups])


def test_annealing_is_half_a_cosine_over_one_phase_or_several():
    groups = {"body": 0.01}
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(8) / 8))
    whole, parts = Rates(), Rates()
    train(Phase("all", 8, 0.1, "adam", None, groups, (Annealing(8), whole)))
    train(
        Phase("first", 4, 0.1, "adam", None, groups, (Annealing(8), parts)),
        Phase("rest", 4, 0.1, "adam", None, groups, (Annealing(8, 4), parts)),
    )
    for rates in (whole, parts):
        np.testing.assert_allclose(rates.seen, np.outer(expected, [0.01, 0.1]))


def test_checkpoints_work(tmp_path):
    checkpoint = skorch.callbacks.Checkpoint(
        monitor="train_loss_best", dirname=str(tmp_path)
    )
    train(Phase("joint", 2, 0.1), net_params={"callbacks": [checkpoint]})
    assert (tmp_path / "params.pt").exists()


def test_progress_line_is_one_line(capsys):
    train(Phase("joint", 4, 0.1), callbacks=[ProgressLine("Name", 4)])
    shown = capsys.readouterr().out
    assert "Name: epoch 4/4" in shown
    assert shown.count("\n") == 1
