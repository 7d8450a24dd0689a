"""RDE, Pixel RDE and CartoonX as their callers see them, and what the distortions are blind to."""

import warnings

import pytest
import torch
from torch import nn

from xai_lib import rate_distortion
from xai_lib.masks import (
    L1,
    Bernoulli,
    Blurred,
    Clusters,
    Constant,
    Gaussian,
    Inpainted,
    MatchingPursuit,
    OutputChange,
    ProbabilityChange,
    ScoreChange,
    Wavelets,
    channels,
    pixels,
)
from xai_lib.outputs import generator_of
from xai_lib.rate_distortion import RDE, CartoonX, PixelRDE, inpainted_measurements

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(3, 3, 16, 16, generator=GENERATOR)
WEIGHTS = torch.randn(4, 3, 16, 16, generator=GENERATOR)
FAST = L1.fast(0.5, n_steps=8, n_samples=4)


def model(x):
    return torch.tanh(x.flatten(1) @ WEIGHTS.flatten(1).T)


@pytest.mark.parametrize("method", [PixelRDE, CartoonX])
def test_attributions_are_shaped_as_the_inputs(method):
    explanation, details = method(model, FAST).attribute(IMAGES, return_details=True, n_evaluation=8)
    assert explanation.shape == IMAGES.shape and explanation.min() >= 0 and explanation.max() <= 1
    assert (explanation == explanation[:, :1]).all()
    assert details.trace.shape == (8, 3) and details.distortion.shape == details.rate.shape == (3,)
    torch.testing.assert_close(details.rate, details.mask.mean(1))
    assert torch.equal(explanation, method(model, FAST).attribute(IMAGES))


def test_defaults_are_the_papers():
    assert PixelRDE(model).solver == L1(0.6, n_steps=2000, step_size=0.003, n_samples=64)
    assert CartoonX(model).solver == L1(3.0, n_steps=2000, step_size=0.003, n_samples=64)
    assert PixelRDE(model).distortion == ProbabilityChange(100.0)


def test_pixel_rde_finds_the_pixels_that_matter():
    """A model that sees 12 of 256 pixels: the mask keeps them and no other."""
    seen = torch.zeros(16, 16)
    seen[4:7, 5:9] = 1
    image = 0.8 * torch.ones(1, 3, 16, 16) * seen + 0.2 * torch.rand(1, 3, 16, 16, generator=GENERATOR)

    def sees(x):
        score = 4 * ((x * seen).sum((1, 2, 3)) / 36 - 0.5)
        return torch.stack([score, -score], 1)

    mask = PixelRDE(sees, L1.fast(1.0, n_steps=150, n_samples=16)).attribute(image)[0, 0]
    assert mask[seen == 0].max() < 0.05 and mask[seen == 1].min() > 0.5


def test_target_and_streams():
    explain = PixelRDE(model, FAST).attribute
    predicted = model(IMAGES).argmax(1)
    assert torch.equal(explain(IMAGES), explain(IMAGES, predicted))
    assert not torch.equal(explain(IMAGES), explain(IMAGES, (predicted + 1) % 4))
    assert torch.equal(explain(IMAGES, seed=[1, 2, 3])[1], explain(IMAGES[1:2], seed=[2])[0])


def test_obfuscations_under_full_and_empty_masks():
    rde = RDE(model, pixels, Gaussian(0.5, 0.1), ScoreChange(), FAST)
    ones = torch.ones(3, 256)
    assert torch.equal(rde.obfuscate(IMAGES, ones, n_samples=2), IMAGES.expand(2, *IMAGES.shape))
    noise = rde.obfuscate(IMAGES, 0 * ones, n_samples=50)
    assert abs(noise.std() / 0.1 - 1) < 5 / (2 * noise.numel() / 3) ** 0.5
    assert torch.equal(rde.obfuscate(IMAGES, ones.bool())[0], IMAGES)


@pytest.mark.parametrize(
    "mask, sentence",
    [
        ([1.0], "mask is a list, expected a tensor."),
        (torch.ones(3, 0), "mask has shape (3, 0), expected (3, 256)."),
        (2 * torch.ones(3, 256), "mask ranges from 2 to 2, expected 0 to 1."),
        (torch.nan * torch.ones(3, 256), "mask ranges from nan to nan, expected 0 to 1."),
    ],
)
def test_bad_masks(mask, sentence):
    with pytest.raises((TypeError, ValueError)) as error:
        PixelRDE(model).obfuscate(IMAGES, mask)
    assert str(error.value) == sentence


def test_cartoonx_obfuscations_are_clipped():
    noise = CartoonX(model).obfuscate(IMAGES, torch.zeros(3, 400), n_samples=4)
    assert noise.min() == 0 and noise.max() == 1


class Shifted:
    """Adds c(x) to all scores, where c is 0 at the input and grows with the distance from it."""

    def __init__(self, same):
        self.same = same

    def __call__(self, x):
        c = torch.ones(len(x)) if self.same else 10 * (x - IMAGES[:1]).abs().flatten(1).mean(1)
        return model(x) + c[:, None]


@pytest.mark.parametrize(
    "distortion, same, invariant",
    [
        (ScoreChange(), True, True),
        (ScoreChange(), False, False),
        (ProbabilityChange(), True, True),
        (ProbabilityChange(), False, True),
    ],
)
def test_invariance_to_a_constant_added_to_all_scores(distortion, same, invariant):
    """d2 is blind to any constant, d1 only to one that is the same at the input and at the obfuscation."""
    found = []
    for f in (model, Shifted(same)):
        rde = RDE(f, pixels, Gaussian(), distortion, L1(1.0, n_steps=3, n_samples=2))
        found.append(rde.attribute(IMAGES[:1], return_details=True, n_evaluation=16)[1].distortion)
    equal = torch.allclose(*found, rtol=1e-4)  # float32, through a sum of exponentials
    assert equal == invariant


def test_distortions_are_what_they_are_called():
    scores = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 3.0]])
    clean = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0]])
    target, rows = torch.tensor([0, 2]), torch.arange(2)
    torch.testing.assert_close(ScoreChange()(scores, clean, target, rows), torch.tensor([1.0, 4.0]))
    p, q = (z.softmax(1).gather(1, target[:, None])[:, 0] for z in (scores, clean))
    torch.testing.assert_close(ProbabilityChange()(scores, clean, target, rows), 100 * (p - q) ** 2)
    torch.testing.assert_close(OutputChange()(scores, clean, None, rows), torch.tensor([2.0, 5.25]))
    where = torch.tensor([[True, False, False], [False, False, True]])
    torch.testing.assert_close(OutputChange(where)(scores, clean, None, rows), torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(OutputChange(where[0])(scores, clean, None, rows), torch.tensor([1.0, 0.25]))


def test_log_odds_of_a_certain_class():
    """Where the probability is 1 in float32, its log-odds are still a number, and so is their gradient."""
    d = ProbabilityChange(1.0)
    clean = d.score(torch.tensor([[40.0, 0.0]]), torch.tensor([0]))
    assert float(clean) == 40.0 and float(d.of(torch.tensor([0.0]), clean)) == 0.25


def test_magnitude_against_phase_over_a_class():
    """Two classes of inputs share a mask each; the model looks at channel 0 of the one and channel 1 of the other."""
    x = torch.randn(8, 2, 10, generator=GENERATOR) + 3
    kind = torch.arange(8) % 2

    def looks(z, kind):
        return 4 * z.mean(2).gather(1, kind[:, None])[:, 0]

    solver = Bernoulli(2.0, n_steps=120, step_size=0.3, n_samples=8)
    rde = RDE(looks, channels, Constant(0.0), ScoreChange(), solver)
    explanation, details = rde.attribute(x, share=kind, additional_forward_args=kind, return_details=True)
    torch.testing.assert_close(details.mask, torch.eye(2), rtol=0, atol=0.02)
    assert explanation.shape == x.shape


def test_regression_on_a_box():
    """d4 of a model that copies its input: matching pursuit takes the cluster that fills the box."""
    labels = torch.ones(1, 1, 4, 4, dtype=torch.int64)
    labels[..., 2:, :] = 2
    box = torch.zeros(4, 4, dtype=torch.bool)
    box[3, 1] = True
    rde = RDE(lambda z: z, Clusters(labels), Constant(0.0), OutputChange(box), MatchingPursuit(2, tolerance=0.0))
    _, details = rde.attribute(torch.ones(1, 1, 4, 4), return_details=True)
    assert details.order.tolist() == [[1]] and details.trace[:, 0].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("box", [torch.ones(3, 4), torch.ones(2, 4, 4), torch.ones(5, 4, 4), torch.ones(5)])
def test_a_box_that_does_not_fit_the_output(box):
    labels = torch.ones(3, 1, 4, 4, dtype=torch.int64)
    rde = RDE(lambda z: z, Clusters(labels), Constant(0.0), OutputChange(box > 0), MatchingPursuit(1))
    with pytest.raises(ValueError, match=r"where has shape .*, expected that of one output, \(1, 4, 4\), or of all, "):
        rde.attribute(torch.ones(3, 1, 4, 4))


def test_whole_outputs_have_no_target():
    rde = RDE(lambda z: z, pixels, Constant(0.0), OutputChange(), FAST)
    with pytest.raises(ValueError, match="target is given, expected None: whole outputs are compared"):
        rde.attribute(IMAGES, 1)


def test_a_distortion_of_ones_own():
    """A function of whole outputs, here of a map's mean: a mask entry of 48 adds a 48th to what is left of it."""

    def mean_change(outputs, clean, target, rows):
        return (outputs - clean).flatten(1).mean(1).square()

    x = torch.ones(2, 3, 4, 4)
    rde = RDE(lambda z: z, pixels, Constant(0.0), mean_change, MatchingPursuit(4))
    trace = rde.attribute(x, return_details=True)[1].trace
    torch.testing.assert_close(trace, ((1 - torch.arange(5) / 16) ** 2)[:, None].expand(5, 2))


def brightened(h, s, z):
    return s * h + z.view(-1, *[1] * (h.ndim - 1))


@pytest.mark.parametrize("solver", [L1(1.0, 2, n_samples=3), Bernoulli(1.0, 2, n_samples=3), MatchingPursuit(2)])
@pytest.mark.parametrize(
    "obfuscation", [Constant(), Gaussian(), Inpainted(lambda h, s, z: s * h), Inpainted(brightened, (1,))]
)
@pytest.mark.parametrize("representation", [pixels, channels, Wavelets("haar", 1)])
def test_the_choices_are_independent(representation, obfuscation, solver):
    rde = RDE(model, representation, obfuscation, ScoreChange(), solver)
    assert rde.attribute(IMAGES).shape == IMAGES.shape


@pytest.mark.parametrize(
    "choose, sentence",
    [
        (
            lambda: RDE(model, pixels, Constant(torch.nan), ScoreChange(), FAST),
            "value is nan, expected a finite number.",
        ),
        (
            lambda: RDE(model, pixels, Constant(), ScoreChange(-1.0), FAST),
            "scale is -1.0, expected a finite number above 0.",
        ),
        (lambda: PixelRDE(model, 0.6), "solver is 0.6, expected one such as L1(0.6)."),
        (lambda: PixelRDE(model, L1.fast(0.6, 0)), "n_steps is 0, expected an integer of at least 1."),
        (
            lambda: RDE(model, pixels, Gaussian(mean=torch.zeros(7)), ScoreChange(), FAST),
            "mean has shape (7,), expected one that broadcasts with the coefficients', (3, 3, 16, 16).",
        ),
        (
            lambda: RDE(model, channels, Blurred(3.0, Wavelets("haar", 1)), ScoreChange(), FAST),
            "representation makes coefficients of shape (3, 3, 256) of the blurred inputs, "
            "expected that of the inputs' own, (3, 3, 16, 16).",
        ),
    ],
)
def test_bad_choices(choose, sentence):
    with pytest.raises((TypeError, ValueError)) as error:
        choose().attribute(IMAGES)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    "returned, sentence",
    [
        (lambda h, s, z: None, "generator returned a NoneType, expected (6, 3, 16, 16)."),
        (lambda h, s, z: h[:1], "generator returned shape (1, 3, 16, 16), expected (6, 3, 16, 16)."),
        (lambda h, s, z: h / 0, "generator returned NaN or infinity, expected finite coefficients."),
    ],
)
def test_inpainters_are_checked(returned, sentence):
    rde = RDE(model, pixels, Inpainted(returned, (1,)), ScoreChange(), L1(1.0, 2, n_samples=2))
    with pytest.raises(ValueError) as error:
        rde.attribute(IMAGES)
    assert str(error.value) == sentence


def test_the_final_distortion_is_a_mean_over_fresh_samples(monkeypatch):
    """Of 8 samples in blocks of 3, whatever the blocks: each block has noise of its own and counts by its samples."""
    monkeypatch.setattr(rate_distortion, "BLOCK", 3)
    w = torch.linspace(-1, 1, 10)
    rde = RDE(lambda z: z @ w, pixels, Gaussian(0.0, 0.5), ScoreChange(), L1(1e6, 60, 0.02, 2))
    x = torch.zeros(2, 10)
    found = rde.attribute(x, seed=[5, 6], return_details=True, n_evaluation=8)[1]
    assert (found.mask == 0).all()
    for i, seed in enumerate((5, 6)):
        draws = []
        for start, n in ((0, 3), (3, 3), (6, 2)):
            generator = generator_of(x.device, seed, rate_distortion.EVALUATION + start, 0)
            draws.append(0.5 * torch.randn(n, 10, generator=generator) @ w)
        assert len(torch.cat(draws).unique()) == 8
        torch.testing.assert_close(found.distortion[i], torch.cat(draws).square().mean())


def test_one_number_per_input_is_a_whole_output():
    w = torch.linspace(-1, 1, 10)
    rde = RDE(lambda z: z @ w, pixels, Constant(0.0), OutputChange(), MatchingPursuit(1))
    found = rde.attribute(torch.ones(2, 10), return_details=True)[1]
    torch.testing.assert_close(found.trace[0], w.sum().square().expand(2))


@pytest.mark.parametrize("share, brightness", [(0.0, 0.0), (1.0, 0.5), (0.4, 0.2)])
def test_measurements_come_from_the_estimate(share, brightness):
    x = torch.zeros(1, 3, 64, 64)
    x[:, 2, 1:] = 0.9  # what is measured may be 0
    obfuscation = inpainted_measurements(lambda z: torch.full_like(z[:, :1], 0.5), share)
    labels = torch.zeros(1, 3, 64, 64, dtype=torch.int64)
    labels[:, 2] = 1
    rde = RDE(lambda z: z, Clusters(labels), obfuscation, OutputChange(), MatchingPursuit(1))
    y = rde.obfuscate(x, torch.zeros(1, 1))
    assert abs(y[0, 0, 2].mean() - brightness) < 5 * 0.25 / 64 and (y[0, 0, :2] == 0).all()
    with pytest.raises(ValueError, match="share is 2"):
        inpainted_measurements(model, 2)


def test_the_model_comes_back_untouched():
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.Dropout())
    net.train()
    before = [p.clone() for p in net.parameters()]
    with pytest.warns(UserWarning, match="training mode"):
        PixelRDE(net, FAST).attribute(IMAGES)
    with pytest.warns(UserWarning, match="training mode"):
        RDE(net, pixels, Gaussian(), OutputChange(), FAST).attribute(IMAGES)
    assert net.training and all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"inputs": [1.0]}, "inputs is a list, expected a tensor."),
        ({"inputs": IMAGES * torch.nan}, "inputs contains NaN or infinity, expected finite values."),
        ({"target": 9}, "target ranges from 9 to 9, expected 0 to 3 (4 classes)."),
        ({"seed": -1}, "seed is -1, expected a non-negative integer or one per input (3)."),
        ({"seed": [1, 2]}, "seed is [1, 2], expected a non-negative integer or one per input (3)."),
        ({"seed": 1.5}, "seed is 1.5, expected a non-negative integer or one per input (3)."),
        ({"seed": torch.tensor(1)}, "seed is tensor(1), expected a non-negative integer or one per input (3)."),
        (
            {"share": [0, 2, 2]},
            "share is [0, 2, 2], expected one of the numbers 0, 1, 2, ..., none left out, for each of 3 inputs.",
        ),
        ({"n_evaluation": 0}, "n_evaluation is 0, expected an integer of at least 1."),
        ({"internal_batch_size": 0}, "internal_batch_size is 0, expected an integer of at least 1."),
    ],
)
def test_bad_input_gets_one_sentence(change, sentence):
    with warnings.catch_warnings(), pytest.raises((TypeError, ValueError)) as error:
        warnings.simplefilter("error")
        PixelRDE(model, FAST).attribute(**{"inputs": IMAGES} | change)
    assert str(error.value) == sentence
