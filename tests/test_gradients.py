"""The engine: exact expectations, the noise, independence of chunks, order and grouping, stopping, memory, errors."""

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from torch import nn
from torchvision.ops import StochasticDepth

from tests.problems import PROBLEMS, Logged, X, assert_normal, most_numbers_held
from xai_lib.baselines import SmoothGrad, SmoothGradSQ, VarGrad
from xai_lib.blur_ig import BlurIG
from xai_lib.gradients import CHECK_EVERY, batch_size, count_passes

S = 0.4
METHODS = [SmoothGrad, SmoothGradSQ, VarGrad]
STANDARD_ERRORS = 5.5  # of a correct estimate one in 3e7 lies further out; some 200 are compared
ROUNDING = 1e-12


def small_network(dtype=torch.float64) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).to(dtype).eval()


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("method, exact", [(SmoothGrad, "mean"), (SmoothGradSQ, "square")])
@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_expectation(problem, method, exact, antithetic):
    estimate, info = method(problem.forward, output="score").attribute(
        X, n_samples=4000, stdev=S, antithetic=antithetic, return_info=True
    )
    expected = getattr(problem, exact)(X, S)
    allowed = STANDARD_ERRORS * info.standard_error + ROUNDING * expected.abs().max()
    assert ((estimate - expected).abs() <= allowed).all()


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_variance(problem):
    n, seeds = 50, 40
    method = VarGrad(problem.forward, output="score")
    estimates = torch.stack([method.attribute(X, n_samples=n, stdev=S, seed=seed) for seed in range(seeds)])
    expected = (problem.square(X, S) - problem.mean(X, S) ** 2) * (n - 1) / n  # the biased variance
    error = estimates.std(0) / seeds**0.5
    assert ((estimates.mean(0) - expected).abs() <= STANDARD_ERRORS * error + ROUNDING).all()


def test_one_sample_without_noise_is_the_gradient():
    for problem in PROBLEMS:
        got = SmoothGrad(problem.forward, output="score").attribute(X, n_samples=1, stdev=0.0)
        torch.testing.assert_close(got, problem.gradient(X), rtol=ROUNDING, atol=ROUNDING)


def test_noise_is_standard_normal_and_shared_under_one_seed():
    model = Logged(PROBLEMS[0].forward)
    SmoothGrad(model, output="score").attribute(X, n_samples=2000, stdev=S)
    noise = (torch.cat(model.points).unflatten(0, (-1, len(X))) - X) / S
    assert_normal(noise[:, 0])
    torch.testing.assert_close(noise[:, 0], noise[:, 1], rtol=0, atol=1e-14)


def test_noise_of_single_streams_is_independent():
    model = Logged(PROBLEMS[0].forward)
    SmoothGrad(model, output="score").attribute(X, n_samples=2000, stdev=S, seed=[3, 5, 4])
    noise = (torch.cat(model.points).unflatten(0, (-1, len(X))) - X) / S
    assert_normal(noise)
    correlation = torch.corrcoef(noise.movedim(1, 0).flatten(1))[0, 1]
    assert correlation.abs() < STANDARD_ERRORS / noise[:, 0].numel() ** 0.5


def test_antithetic_pairs_are_opposite():
    model = Logged(PROBLEMS[0].forward)
    SmoothGrad(model, output="score").attribute(X[:1] * 0, n_samples=20, stdev=S, antithetic=True)
    points = torch.cat(model.points)
    assert torch.equal(points[0::2], -points[1::2])
    assert len(points[0::2].unique(dim=0)) == 10


@pytest.mark.parametrize("seed", [7, [7, 8, 9]])
@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_chunks_do_not_matter(method, antithetic, seed):
    results, noises = [], []
    for rows in (1, 2, 4, 7, 1000):
        model = Logged(small_network())
        attribution = method(model).attribute(
            X, 0, n_samples=10, stdev=S, seed=seed, antithetic=antithetic, internal_batch_size=rows
        )
        assert max(len(p) for p in model.points) <= rows
        noises.append(torch.cat(model.points).sort(0).values)
        results.append(attribution)
    for noise, result in zip(noises, results, strict=True):
        assert torch.equal(noise, noises[0])
        torch.testing.assert_close(result, results[0], rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("method", METHODS)
def test_order_and_grouping_do_not_matter(method):
    explain = method(small_network()).attribute
    seeds = [7, 8, 9]
    together = explain(X, [0, 1, 2], n_samples=10, stdev=S, seed=seeds)
    reversed_ = explain(X.flip(0), [2, 1, 0], n_samples=10, stdev=S, seed=seeds[::-1]).flip(0)
    alone = torch.cat([explain(X[i : i + 1], i, n_samples=10, stdev=S, seed=[seeds[i]]) for i in range(3)])
    for other in (reversed_, alone):
        torch.testing.assert_close(other, together, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("antithetic", [False, True])
def test_stopping_does_not_depend_on_chunks_or_company(antithetic):
    explain = SmoothGrad(small_network()).attribute
    settings = {"n_samples": 5000, "tolerance": 0.05, "antithetic": antithetic, "return_info": True, "stdev": S}
    runs = [explain(X, 0, internal_batch_size=rows, **settings) for rows in (1, 5, 64)]
    alone = [explain(X[i : i + 1], 0, **settings) for i in range(3)]
    used = runs[0][1].n_samples
    assert (used % CHECK_EVERY == 0).all() and (used < 5000).all() and len(used.unique()) > 1
    for attribution, info in [*runs, tuple(map(_joined, zip(*alone, strict=True)))]:
        assert torch.equal(info.n_samples, used)
        torch.testing.assert_close(attribution, runs[0][0], rtol=ROUNDING, atol=ROUNDING)
        assert (info.standard_error.norm(dim=1) <= 0.05 * attribution.norm(dim=1)).all()


def _joined(parts):
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)
    return type(parts[0])(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


def test_antithetic_pairs_count_as_one_unit():
    """A linear gradient's pair means are exact: the error of pairs is 0 and that of singles is not."""
    forward = PROBLEMS[1].forward
    _, pairs = SmoothGrad(forward, "score").attribute(X, n_samples=32, stdev=S, antithetic=True, return_info=True)
    _, singles = SmoothGrad(forward, "score").attribute(X, n_samples=32, stdev=S, return_info=True)
    assert pairs.standard_error.max() < ROUNDING < singles.standard_error.min()


@pytest.mark.parametrize("antithetic", [False, True])
def test_standard_error_is_the_spread_of_the_estimates(antithetic):
    """Over 300 seeds: the spread itself is known to 1 / sqrt(2 * 300) = 4 %, and one of 18 may be 4 such off."""
    explain = SmoothGradSQ(PROBLEMS[3].forward, "score").attribute
    runs = [explain(X, n_samples=64, stdev=S, seed=i, antithetic=antithetic, return_info=True) for i in range(300)]
    spread = torch.stack([estimate for estimate, _ in runs]).std(0)
    reported = torch.stack([info.standard_error for _, info in runs]).square().mean(0).sqrt()
    assert ((reported / spread - 1).abs() < 0.16).all()


def test_a_run_of_smoothgrad_holds_both_others():
    """Its mean and standard error give the mean square and the variance of the same gradients."""
    settings = {"n_samples": 16, "stdev": S, "seed": 3}
    explained = PROBLEMS[3].forward
    mean, info = SmoothGrad(explained, "score").attribute(X, return_info=True, **settings)
    variance = 15 * info.standard_error**2
    torch.testing.assert_close(VarGrad(explained, "score").attribute(X, **settings), variance)
    torch.testing.assert_close(SmoothGradSQ(explained, "score").attribute(X, **settings), mean**2 + variance)


def test_a_gradient_of_zero_is_precise_at_once():
    _, info = SmoothGrad(lambda z: 0 * z.sum(1), "score").attribute(X, n_samples=200, tolerance=0.1, return_info=True)
    assert (info.n_samples == CHECK_EVERY).all()


def test_memory_does_not_grow_with_samples():
    def peak(n_samples):
        settings = {"n_samples": n_samples, "stdev": S, "internal_batch_size": 6}
        return most_numbers_held(PROBLEMS[1].forward, lambda f: SmoothGrad(f, "score").attribute(X, **settings))

    assert peak(64) <= peak(8)


@pytest.mark.parametrize("method", METHODS)
def test_chunk_is_halved_when_memory_runs_out(method):
    def forward(z):
        if len(z) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return network(z)

    network = small_network()
    expected = method(network).attribute(X, 0, n_samples=20, stdev=S)
    got = method(forward).attribute(X, 0, n_samples=20, stdev=S, internal_batch_size=64)
    torch.testing.assert_close(got, expected, rtol=ROUNDING, atol=ROUNDING)


def test_a_single_row_that_does_not_fit_is_an_error():
    def forward(z):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        SmoothGrad(forward).attribute(X, 0)


def test_other_errors_of_the_model_pass_through_at_once():
    calls = []

    def forward(z):
        calls.append(len(z))
        if z.requires_grad:
            raise RuntimeError("the model's own fault")
        return network(z)

    network = small_network()
    with pytest.raises(RuntimeError, match="own fault"):
        SmoothGrad(forward).attribute(X, 0)
    assert len(calls) == 2


@pytest.mark.parametrize("output", ["probability", "log_probability"])
def test_log_probabilities_serve_as_logits(output):
    """Softmax and log-softmax undo what a last layer of log-softmax did."""
    network = small_network()
    models = network, nn.Sequential(network, nn.LogSoftmax(1))
    got = [SmoothGrad(model, output).attribute(X, 1, n_samples=4) for model in models]
    torch.testing.assert_close(*got, rtol=1e-11, atol=ROUNDING)


@pytest.mark.parametrize(
    "explain",
    [lambda m, x: SmoothGrad(m).attribute(x, 0, n_samples=1, stdev=0.0), lambda m, x: BlurIG(m).attribute(x, 0)],
    ids=["SmoothGrad", "BlurIG"],
)
def test_float32_agrees_with_float64(explain):
    wide, narrow = explain(small_network(), X), explain(small_network(torch.float32), X.float())
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "explain",
    [
        lambda m, x: SmoothGrad(m).attribute(x, 0, n_samples=32, stdev=0.1, seed=1),
        lambda m, x: BlurIG(m).attribute(x, 0, n_steps=32),
    ],
)
def test_autocast_error(explain):
    """bfloat16 has 8 significant bits: a network of two convolutions keeps a relative error of a few 2^-8."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.Softplus(), nn.Conv2d(8, 8, 3), nn.Softplus(), nn.Flatten(), nn.Linear(8 * 144, 3)
        ).eval()
        x = torch.rand(2, 3, 16, 16)
    exact = explain(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = explain(model, x)
    error = (rough - exact).norm() / exact.norm()
    assert rough.dtype == torch.float32
    assert 0 < error < 8 * 2**-8


@pytest.mark.parametrize(
    "explain", [lambda m, x: SmoothGrad(m).attribute(x, 0), lambda m, x: BlurIG(m).attribute(x, 0)]
)
def test_model_comes_back_untouched(explain):
    model = small_network()
    model[0].weight.requires_grad_(False)
    model[2].weight.grad = torch.ones_like(model[2].weight)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    random_state = torch.get_rng_state()
    inputs = X.clone()
    with torch.no_grad():
        explain(model, inputs)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(inputs, X) and not inputs.requires_grad
    assert not model.training and not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]
    assert torch.equal(model[2].weight.grad, torch.ones_like(model[2].weight)) and model[0].bias.grad is None
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_tuples_in_tuples_out():
    a, b = X[:, :4], X[:, 4:]
    network = small_network()
    got = SmoothGrad(lambda u, v: network(torch.cat([u, v], 1))).attribute((a, b), 0, n_samples=1, stdev=0.0)
    whole = SmoothGrad(network).attribute(X, 0, n_samples=1, stdev=0.0)
    assert isinstance(got, tuple)
    torch.testing.assert_close(torch.cat(got, 1), whole)


def test_additional_arguments_go_with_their_input():
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    got = SmoothGrad(lambda z, c, power: c[:, None] * z**power, "score").attribute(
        X, 0, n_samples=1, stdev=0.0, additional_forward_args=(scale, 1), internal_batch_size=2
    )
    assert torch.equal(got[:, 0], scale)


def test_progress_counts_gradients(capsys):
    SmoothGrad(small_network()).attribute(X, 0, n_samples=8, show_progress=True)
    assert "24/24" in capsys.readouterr().err
    SmoothGrad(small_network()).attribute(X, 0, n_samples=8)
    assert capsys.readouterr().err == ""


def test_works_inside_captums_noise_tunnel():
    torch.manual_seed(0)
    tunnel = NoiseTunnel(BlurIG(small_network()))
    plain = BlurIG(small_network()).attribute(X, 0, n_steps=4)
    noisy = tunnel.attribute(X, nt_samples=3, stdevs=1e-9, target=0, n_steps=4)
    torch.testing.assert_close(noisy, plain, rtol=1e-6, atol=1e-6)


def test_default_batch_size_depends_on_shapes_alone():
    assert batch_size((torch.empty(1, 3, 224, 224),), None) == 6
    assert batch_size((torch.empty(1, 10),), None) == 128
    assert batch_size((torch.empty(1, 10**9, device="meta"),), None) == 1


NAN = X.clone()
NAN[1, 2] = torch.nan


@pytest.mark.parametrize(
    "change, message",
    [
        ({"inputs": NAN}, "inputs contains NaN"),
        ({"inputs": X.long()}, "inputs has dtype torch.int64"),
        ({"inputs": X.half()}, "inputs has dtype torch.float16"),
        ({"inputs": X.numpy()}, "inputs holds a ndarray"),
        ({"inputs": X[0]}, "inputs has shape"),
        ({"inputs": X[:0]}, "inputs has shape"),
        ({"inputs": ()}, "inputs is an empty tuple"),
        ({"target": "cat"}, "target is a str"),
        ({"inputs": (X, X[:2])}, "inputs has shape"),
        ({"target": 3}, "target ranges from 3 to 3, expected 0 to 2"),
        ({"target": -1}, "target ranges from -1"),
        ({"target": [0, 1]}, "target has 2 entries, expected 1 or 3"),
        ({"target": 0.5}, "target is a float"),
        ({"target": [0.5, 0.5, 1.0]}, "target has dtype"),
        ({"n_samples": 0}, "n_samples is 0"),
        ({"n_samples": 2.0}, "n_samples is 2.0"),
        ({"n_samples": 5, "antithetic": True}, "n_samples is 5, expected an even"),
        ({"internal_batch_size": 0}, "internal_batch_size is 0"),
        ({"seed": [1, 2]}, "seed is"),
        ({"seed": -1}, "seed is -1"),
        ({"stdev": -1.0}, "stdev is -1.0"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
    ],
)
def test_bad_arguments_stop_before_any_gradient(change, message):
    model = Logged(small_network())
    with pytest.raises((ValueError, TypeError), match=message) as error:
        SmoothGrad(model).attribute(**{"inputs": X, "target": 0, **change})
    assert model.points == [] and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "forward, message",
    [
        (lambda z: z * torch.nan, "returned NaN"),
        (lambda z: z.detach(), "not differentiable"),
        (lambda z: small_network()(z.detach()), "not differentiable"),
        (lambda z: z[:2], "shape"),
        (lambda z: z.argmax(1), "expected floats"),
        (lambda z: z[:, :, None], "expected \\(batch, classes\\)"),
        (lambda z: z[:, :1], "one class, expected at least 2"),
        (lambda z: None, "NoneType"),
    ],
)
def test_bad_models(forward, message):
    with pytest.raises(ValueError, match=message):
        SmoothGrad(forward, output="probability").attribute(X, 0)


def test_unknown_output():
    with pytest.raises(ValueError, match="output is 'logit'"):
        SmoothGrad(small_network(), output="logit")


def test_numpy_integers_serve():
    explain = SmoothGrad(small_network()).attribute
    counts = {"n_samples": np.int64(2), "internal_batch_size": np.int64(2)}
    assert torch.equal(explain(X, np.int64(1), seed=np.int64(3), **counts), explain(X, 1, seed=3, n_samples=2))


def test_stopping_needs_a_standard_error():
    with pytest.raises(ValueError, match="tolerance is given"):
        VarGrad(small_network()).attribute(X, 0, tolerance=0.1)


@pytest.mark.parametrize("layer", [nn.Dropout(), nn.BatchNorm1d(3), StochasticDepth(0.5, "row")])
def test_a_model_in_training_mode_warns(layer):
    model = nn.Sequential(nn.Linear(6, 3), layer).double()
    with pytest.warns(UserWarning, match="training mode") as warned:
        SmoothGrad(model).attribute(X, 0, n_samples=2)
    assert warned[0].filename == __file__  # the caller's line, not one of the library


def test_passes_are_counted_in_rows():
    """Besides its gradients a method looks once at the clean inputs, and BlurIG once at the blurred ones."""
    model = small_network()
    with count_passes(model) as passes:
        BlurIG(model).attribute(X, n_steps=7, return_convergence_delta=True, internal_batch_size=4)
    assert (passes.gradients, passes.forward) == (3 * 7, 3 + 3)
    model(X)
    assert passes.forward == 6 and not model._forward_hooks


class Viewing(nn.Module):
    """A convolution, and a linear layer on its features viewed as rows, which fails if channels come last."""

    def __init__(self):
        super().__init__()
        self.features, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 6 * 6, 2)
        self.seen = []

    def forward(self, x):
        features = self.features(x)
        self.seen.append(features.is_contiguous(memory_format=torch.channels_last))
        return self.head(features.view(len(x), -1) if self.viewing else features.flatten(1))


def test_images_reach_a_network_in_the_layout_it_can_take():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, images = Viewing().double(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    found = []
    for model.viewing in (False, True):
        model.seen.clear()
        found.append(SmoothGrad(model).attribute(images, 0, n_samples=4))
        assert model.seen[-1] is not model.viewing
    torch.testing.assert_close(*found)
