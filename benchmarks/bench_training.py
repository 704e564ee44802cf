"""Cost of the training loop: against the same optimisation written by hand in torch.

Digits, classification by components, L-BFGS and Adam: the same module, start, loss and
number of steps.
"""

import copy

import torch
from _common import compare, verdict
from sklearn.datasets import load_digits

from skproto import CBCClassifier
from skproto.nn import NegativeLogLikelihood
from skproto.training import BatchDataset, Phase, TrainingData, make_net, run_phases

BATCH_SIZE = 512


def prepared():
    """Training data and starting module of a classifier on digits."""
    X, y = load_digits(return_X_y=True)
    model = CBCClassifier(max_epochs=0, random_state=0).fit(X, y)
    scaled = model._scaling.apply(X)
    n_samples = len(y)
    weight = torch.ones(n_samples).double().numpy()
    data = TrainingData(scaled, y, weight, torch.arange(n_samples).numpy(), 10, None)
    return data, model.net_.module_


def with_skproto(data, module, solver, n_epochs):
    """Train by a phase."""
    generator = torch.Generator().manual_seed(0)
    net = make_net(
        copy.deepcopy(module),
        [NegativeLogLikelihood()],
        batch_size=BATCH_SIZE,
        iterator_train__generator=generator,
    )
    run_phases(net, [Phase("joint", n_epochs, 0.02, solver)], BatchDataset(data))


def by_hand(data, module, solver, n_epochs):
    """Train by a loop as one would write it without a library."""
    module = copy.deepcopy(module)
    loss = torch.nn.CrossEntropyLoss()
    x, y = torch.from_numpy(data.X), torch.from_numpy(data.y)
    if solver == "lbfgs":
        optimizer = torch.optim.LBFGS(
            module.parameters(),
            max_iter=n_epochs,
            max_eval=10 * n_epochs,
            history_size=20,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-9,
            tolerance_change=1e-12,
        )

        def closure():
            optimizer.zero_grad()
            value = loss(module(x)["log_scores"], y)
            value.backward()
            return value

        optimizer.step(closure)
        return
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(n_epochs):
        for index in torch.randperm(len(x)).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss(module(x[index])["log_scores"], y[index]).backward()
            optimizer.step()


def main():
    data, module = prepared()
    for solver, n_epochs in (("lbfgs", 100), ("adam", 100)):
        job = (data, module, solver, n_epochs)
        ours, hand = compare(
            lambda job=job: with_skproto(*job), lambda job=job: by_hand(*job)
        )
        print(
            f"  {solver}, {n_epochs} epochs: skproto {ours * 1e3:.0f} ms, by hand "
            f"{hand * 1e3:.0f} ms, ratio {ours / hand:.2f} "
            + verdict(ours / hand, 1.3, at_least=False)
        )


if __name__ == "__main__":
    main()
