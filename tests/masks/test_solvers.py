"""The solvers against the closed forms of the linear model Phi(x) = w.x under noise N(mu, sigma^2)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xai_lib.masks import (
    L1,
    Bernoulli,
    Clusters,
    Constant,
    Gaussian,
    MatchingPursuit,
    Objective,
    Perturbation,
    ScoreChange,
    channels,
    pixels,
)
from xai_lib.outputs import pose

W = torch.tensor([1.5, -0.3, 2.2, 0.6, -1.1, 0.0, -0.45, 0.85], dtype=torch.float64)
N = len(W)
X = torch.randn(3, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SIGMA = 0.7


def linear(z):
    return z @ W


def objective(x=X, obfuscation=None, representation=pixels, forward=linear, limit=64, **settings):
    problem = pose(forward, x, None, None, "score", limit)
    h = representation(x)
    obfuscation = obfuscation or Gaussian(mean=x, std=SIGMA)
    return Objective(problem, h, obfuscation(h, x), ScoreChange(), limit=limit, **settings)


def exact_distortion(s, x, mu):
    return ((1 - s) * W * (x - mu)).sum(-1) ** 2 + SIGMA**2 * ((1 - s) ** 2 * W**2).sum(-1)


def test_distortion_and_gradient_of_the_linear_model():
    n = 40_000
    s = torch.rand(3, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    d = exact_distortion(s, X, 0.3)
    (gradient,) = torch.autograd.grad(d.sum(), s)
    found = objective(obfuscation=Gaussian(mean=0.3, std=SIGMA), limit=4096)
    z = found.noise(0, n)
    estimate, slope = found.gradient(lambda mask, rows, some: mask, s.detach(), z, n)
    error = 5 * (2 / n) ** 0.5  # five standard errors of a chi-square variable's mean, relative
    torch.testing.assert_close(estimate, d.detach(), rtol=3 * error, atol=0)
    torch.testing.assert_close(slope, gradient, rtol=0, atol=float(20 * error * gradient.abs().max() / 5))
    torch.testing.assert_close(found.value(s.detach(), z), estimate, rtol=1e-12, atol=0)


@pytest.mark.parametrize("sparsity", [0.5, 3.0, 12.0])
def test_l1_finds_the_optimum_of_the_separable_model(sparsity):
    """With mu = x: s_i = max(0, 1 - lambda / (2 sigma^2 w_i^2)) for lambda times the sum; the mean has lambda / N."""
    solver = L1(sparsity, n_steps=300, step_size=0.03, n_samples=128, decay=True, antithetic=True)
    optimum = (1 - sparsity / N / (2 * SIGMA**2 * W**2)).clamp(0, 1)
    mask = solver.solve(objective(limit=1024)).mask
    # The noise in a step's gradient is about sqrt(2 / 128), or 12 %; the last hundred steps, of less than 0.01 each,
    # average it down to some hundredths.
    torch.testing.assert_close(mask, optimum.expand(3, N), rtol=0, atol=0.05)


def test_the_papers_procedure_finds_it_too():
    solver = L1(3.0, n_steps=500)
    optimum = (1 - 3.0 / N / (2 * SIGMA**2 * W**2)).clamp(0, 1)
    mask = solver.solve(objective(X[:1], limit=64)).mask
    torch.testing.assert_close(mask[0], optimum, rtol=0, atol=0.1)  # steps of 0.003 on noise of 18 %


@pytest.mark.parametrize("sparsity", [1.0, 12.0])
def test_the_way_back_ends_at_the_best_mask_of_the_line(sparsity):
    """One step empties the mask; on the line s to the full one the objective is (1 - s)^2 D(0) + lambda s."""
    solver = L1(sparsity, 1, 1.0, 2, line_search=4000)
    mask = solver.solve(objective(limit=4096)).mask
    line = torch.linspace(0, 1, 9, dtype=torch.float64)
    exact = (1 - line) ** 2 * SIGMA**2 * W.square().sum() + sparsity * line
    assert exact.sort().values[:2].diff() > 0.05 * exact.min()  # above the noise of 4000 samples: 2 %
    torch.testing.assert_close(mask, line[exact.argmin()].expand(3, N))


def test_the_way_back_does_not_fall_for_rare_jumps():
    """The output jumps by 10 where the noise passes 1, which few samples see.

    Half a mask has a distortion of 2.3, more than it saves. It shows no jump in 16 samples with 69 % and in 64 fresh
    ones with 22 %: at most 15 % fall for it, or for a smaller mask.
    """

    def rare(z):
        return (10 * (z > 1) + 0 * z)[:, 0]

    x = torch.zeros(400, 1, dtype=torch.float64)
    solver = L1(1.0, 1, 1.0, 2, line_search=16)
    jumps = objective(x, Gaussian(mean=0, std=1), forward=rare, limit=4096, seed=list(range(400)))
    s = solver.solve(jumps).mask[:, 0]
    cost = 100 * torch.special.ndtr(-1 / (1 - s)) + s
    assert (cost > 1.1).double().mean() < 0.2


def test_bernoulli_keeps_what_is_worth_more_than_it_costs():
    """theta_i goes to 1 where sigma^2 w_i^2 > lambda / N, and to 0 where it is below."""
    worth = SIGMA**2 * W**2
    threshold = worth.sort().values[N // 2 - 1 : N // 2 + 1].prod().sqrt()  # between the two in the middle
    solver = Bernoulli(float(threshold) * N, n_steps=300, step_size=0.3, n_samples=64)
    theta = solver.solve(objective(limit=1024)).mask
    clear = (worth / threshold).log().abs() > 0.3
    assert torch.equal((theta > 0.5)[:, clear], (worth > threshold).expand(3, N)[:, clear])
    assert torch.minimum(theta, 1 - theta)[:, clear].max() < 0.02


def test_matching_pursuit_takes_the_largest_weights_first():
    """Where the distortion is a sum over entries, greedy is optimal; here v has the covariance of the noise exactly."""
    x = X[:1]

    def one_entry_at_a_time(h, x):
        signed = SIGMA * N**0.5 * torch.cat([torch.eye(N), -torch.eye(N)]).to(x)[:, None]
        return Perturbation((N,), lambda rows, spread, z: x[rows] + signed[: len(z)])

    found = MatchingPursuit(N - 1, n_samples=2 * N).solve(objective(x, one_entry_at_a_time, limit=10_000))
    assert torch.equal(found.order[0], W.abs().argsort(descending=True)[:-1])
    left = torch.cat([W.square().sum()[None], W.square().sum() - W[found.order[0]].square().cumsum(0)])
    torch.testing.assert_close(found.trace[:, 0], SIGMA**2 * left, rtol=1e-12, atol=1e-12)


def greedy_one_by_one(f, k, n):
    """The textbook loop."""
    mask, order = torch.zeros(k, dtype=torch.float64), []
    for _ in range(n):
        costs = {}
        for j in set(range(k)) - set(order):
            tried = mask.clone()
            tried[j] = 1
            costs[j] = f(tried)
        order.append(min(costs, key=costs.get))
        mask[order[-1]] = 1
    return order


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_matching_pursuit_in_one_batch_equals_the_loop(limit):
    made = objective(X[:1], obfuscation=Constant(0.2), limit=limit)
    order = MatchingPursuit(5).solve(made).order[0].tolist()
    assert order == greedy_one_by_one(lambda s: ((1 - s) * W * (0.2 - X[0])).sum() ** 2, N, 5)


def test_matching_pursuit_stops_at_its_tolerance():
    """Input by input: one stops earlier than the other, and takes no entry from then on."""
    made = objective(X[:2], obfuscation=Constant(0.0))
    course = MatchingPursuit(N).solve(made)
    tolerance = float(course.trace[2].min())
    stop = (course.trace <= tolerance).int().argmax(0)
    assert 0 < stop.min() < stop.max()
    found = MatchingPursuit(N, tolerance).solve(made)
    assert found.order.shape == (2, stop.max())
    assert torch.equal((found.order >= 0).sum(1), stop) and torch.equal(found.mask.sum(1), stop.double())
    assert torch.equal(found.trace[-1], course.trace[stop, torch.arange(2)])
    enough = MatchingPursuit(N, tolerance=1e9).solve(made)
    assert enough.order.shape == (2, 0) and (enough.mask == 0).all()


@pytest.mark.parametrize("solver", [L1(0.0, 50, 0.05, 8), MatchingPursuit(N)], ids=lambda s: type(s).__name__)
def test_without_a_price_the_distortion_is_zero(solver):
    made = objective(forward=lambda z: z @ (W + 0.1))
    mask = solver.solve(made).mask
    assert (mask == 1).all()
    assert (made.value(mask, made.noise(7, 16)) < 1e-24).all()  # sums of eight terms in another order


@pytest.mark.parametrize("solver", [L1(1e6, 60, 0.02, 4), Bernoulli(1e6, 200, 0.3, 4)])
def test_a_huge_price_empties_the_mask(solver):
    assert solver.solve(objective()).mask.max() < 0.002  # a logit of the last step


@pytest.mark.parametrize(
    "solver", [L1.fast(2.0, 30), Bernoulli(2.0, 30), MatchingPursuit(4)], ids=lambda s: type(s).__name__
)
class TestEngine:
    """What holds for every solver."""

    def test_the_chunk_changes_rounding_only(self, solver):
        a, b = (solver.solve(objective(limit=limit)).mask for limit in (1000, 5))
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)  # Adam divides by a root of the gradient's square

    def test_inputs_side_by_side_are_as_alone(self, solver):
        together = solver.solve(objective(seed=3)).mask
        alone = torch.cat([solver.solve(objective(x[None], seed=3)).mask for x in X])
        torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)

    def test_a_stream_of_its_own_travels_with_the_input(self, solver):
        a = solver.solve(objective(seed=[3, 4, 5])).mask
        b = solver.solve(objective(X.flip(0), Gaussian(mean=X.flip(0), std=SIGMA), seed=[5, 4, 3])).mask
        torch.testing.assert_close(a, b.flip(0), rtol=1e-6, atol=1e-6)

    def test_memory_for_two_rows_is_enough(self, solver):
        """Where not even one sample of all inputs fits, the inputs are taken in smaller blocks."""

        def small(z):
            if len(z) > 2:
                raise torch.OutOfMemoryError
            return linear(z)

        with_little = solver.solve(objective(forward=small))
        torch.testing.assert_close(with_little.mask, solver.solve(objective()).mask, rtol=1e-6, atol=1e-6)

    def test_the_global_generator_is_left_alone(self, solver):
        state = torch.random.get_rng_state()
        solver.solve(objective())
        assert torch.equal(state, torch.random.get_rng_state())

    def test_inputs_that_share_a_mask(self, solver):
        """Three copies of an input that share a mask get the mask of one."""
        shared = solver.solve(
            objective(X[:1].expand(3, N), Gaussian(0.3, SIGMA), share=torch.zeros(3, dtype=torch.long))
        )
        alone = solver.solve(objective(X[:1], Gaussian(0.3, SIGMA)))
        torch.testing.assert_close(shared.mask, alone.mask, rtol=1e-6, atol=1e-6)


def test_sharing_means_the_mean_over_inputs():
    made = objective(obfuscation=Gaussian(0.3, SIGMA), share=torch.tensor([0, 1, 0]))
    mask = torch.rand(2, N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    z = made.noise(0, 8)
    each = objective(obfuscation=Gaussian(0.3, SIGMA)).value(mask[[0, 1, 0]], z)
    torch.testing.assert_close(made.value(mask, z), torch.stack([(each[0] + each[2]) / 2, each[1]]))


@given(st.integers(1, 3), st.integers(0, 5))
def test_masks_of_clusters_ignore_numbers_that_do_not_occur(n_clusters, seed):
    x = X[:2].view(2, 2, 4)
    labels = torch.randint(n_clusters + 1, x.shape, generator=torch.Generator().manual_seed(seed))
    labels[:, 0, 0] = torch.tensor([1, n_clusters])
    made = objective(x, Constant(), Clusters(labels), lambda z: z.flatten(1) @ W)
    found = MatchingPursuit(20).solve(made)
    assert torch.equal(found.mask.bool(), made.exists)
    assert (made.rate(found.mask) == 1).all()


def test_a_mask_entry_per_channel():
    x = X.view(3, 2, 4)
    made = objective(x, Constant(), channels, lambda z: z.flatten(1) @ W)
    mask = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(3, 2)
    expected = (x[:, 1] @ W[4:]).square()
    torch.testing.assert_close(made.value(mask, None), expected)


@pytest.mark.parametrize(
    "solver, settings, sentence",
    [
        (L1, {"sparsity": -1.0}, "sparsity is -1.0, expected a finite number of at least 0."),
        (L1, {"sparsity": float("inf")}, "sparsity is inf, expected a finite number of at least 0."),
        (L1, {"line_search": -1}, "line_search is -1, expected an integer of at least 0."),
        (L1, {"n_steps": 0}, "n_steps is 0, expected an integer of at least 1."),
        (L1, {"n_samples": 2.5}, "n_samples is 2.5, expected an integer of at least 1."),
        (L1, {"step_size": float("nan")}, "step_size is nan, expected a finite number above 0."),
        (Bernoulli, {"temperature": 0.0}, "temperature is 0.0, expected a finite number above 0."),
        (Bernoulli, {"start": 1.5}, "start is 1.5, expected a number between 0 and 1."),
        (MatchingPursuit, {"n_entries": 0}, "n_entries is 0, expected an integer of at least 1."),
    ],
)
def test_bad_settings(solver, settings, sentence):
    required = {} if solver is MatchingPursuit else {"sparsity": 1.0}
    with pytest.raises(ValueError) as error:
        solver(**required | settings)
    assert str(error.value) == sentence


@pytest.mark.parametrize("network", [linear, torch.nn.Linear(N, 1, dtype=torch.float64)])
def test_a_model_without_gradients(network):
    with pytest.raises(ValueError, match="forward_func or the distortion is not differentiable, expected a gradient"):
        L1(1.0, 2).solve(objective(forward=lambda z: network(z.detach())))
