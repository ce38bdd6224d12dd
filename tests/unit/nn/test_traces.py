from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from biject.nn.traces import Traces, emit, steps


class Loop(nn.Module):
    """A user's own module: three steps, two values each, an inner loop."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in steps(self.layers):
            x = layer(x)
            emit("hidden", x)
            for factor in steps((1.0, 2.0)):
                emit("inner", x * factor)
            emit("norm", x.norm())
        emit("last", x)
        return x


def test_values_by_name_with_their_steps() -> None:
    model = Loop()
    with Traces(model, "hidden", "norm", "last") as traces:
        out = model(torch.ones(1, 2))
    assert [v.shape for v in traces["hidden"]] == [(1, 2)] * 3
    assert traces.steps("hidden") == (0, 1, 2)
    assert traces.steps("norm") == (0, 1, 2)
    assert traces.steps("last") == (None,)
    assert traces["inner"] == ()
    assert traces["last"][0] is out


def test_inner_loops_give_back_the_outer_step() -> None:
    model = Loop()
    with Traces(model) as traces:
        model(torch.ones(1, 2))
    assert traces.steps("inner") == (0, 1) * 3
    assert traces.steps("norm") == (0, 1, 2)


def test_cleared_at_each_call() -> None:
    model = Loop()
    traces = Traces(model, "hidden")
    model(torch.zeros(1, 2))
    first = traces["hidden"]
    model(torch.ones(1, 2))
    assert len(traces["hidden"]) == 3
    assert not torch.equal(first[0], traces["hidden"][0])
    traces.close()
    model(torch.zeros(1, 2))
    assert not torch.equal(first[0], traces["hidden"][0])


def test_attached_to_autograd() -> None:
    model = Loop()
    with Traces(model, "hidden") as traces:
        model(torch.ones(1, 2))
    traces["hidden"][1].sum().backward()
    assert model.layers[0].weight.grad is not None
    assert model.layers[2].weight.grad is None


def test_two_traces_at_once_and_none() -> None:
    model = Loop()
    one, two = Traces(model, "last"), Traces(model, "hidden")
    model(torch.ones(1, 2))
    assert (len(one["last"]), len(one["hidden"])) == (1, 0)
    assert (len(two["last"]), len(two["hidden"])) == (0, 3)
    emit("hidden", torch.ones(1))
    assert len(two["hidden"]) == 3


def test_taps_keep_submodules() -> None:
    model = Loop()
    with Traces(model, "nothing") as traces:
        traces.tap(model.layers[1], "second")
        model(torch.ones(1, 2))
        model.layers[1](torch.ones(1, 2))
    assert traces.steps("second") == (1,)


def test_an_error_ends_the_recording() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            emit("before", x)
            raise RuntimeError("no")

    model = Fails()
    traces = Traces(model)
    for _ in range(2):
        with contextlib.suppress(RuntimeError):
            model(torch.ones(1))
        assert len(traces["before"]) == 1
    emit("outside", torch.ones(1))
    assert traces["outside"] == ()
