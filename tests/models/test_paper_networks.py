"""The networks of papers 1 and 5 on their own data: shapes, fine-tuning, and what training leaves."""

import pytest
import torch
import torchvision
import yaml

from xai_lib.datasets.folders import Labelled
from xai_lib.datasets.notes import make_notes
from xai_lib.datasets.radio_maps import make_radio_maps
from xai_lib.models import load_model
from xai_lib.models.train import paper, radio, sample, spectra


@pytest.mark.parametrize(
    ("name", "inputs", "n_classes"),
    [
        ("cifar10_batches_cnn", torch.zeros(2, 3, 32, 32), 10),
        ("commands_m5", torch.zeros(2, 1, 8000), 35),
        ("imdb_bilstm", torch.ones(2, 40, dtype=torch.long), 2),
        ("animals_resnet50", torch.zeros(2, 3, 64, 64), 80),
        ("nsynth_resnet", torch.zeros(2, 2, 1024), 10),
    ],
)
def test_shapes(name, inputs, n_classes):
    assert load_model(name, pretrained=False)(inputs).shape == (2, n_classes)


def test_the_last_words_of_a_text_are_read():
    texts = [["good"] * 3 + ["bad"] * 40, ["good", "unheard"]]

    def load(split, n=None):
        read = texts if split == "test" else [["bad", "good", "bad"]]
        return Labelled(read, torch.zeros(len(read), dtype=torch.long), ("neg", "pos"))

    tokens = sample.load_tokens(load, "test").inputs
    assert tokens.shape == (2, 40) and (tokens[0] == 2).all()  # the most frequent word follows the two special ones
    assert tokens[1, :3].tolist() == [3, 1, 0]


def test_training_leaves_weights_and_a_card_that_are_found_again(tmp_path, monkeypatch):
    """On eight noises of two classes, for one epoch."""
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    waves = torch.randn(8, 1, 8000, generator=torch.Generator().manual_seed(0))
    heard = Labelled(waves, torch.arange(8) % 2, ("no", "yes"))
    model = load_model("commands_m5", pretrained=False)
    recipe = {"epochs": 1, "learning_rate": 1e-3, "batch": 4}
    layout, _, augment = paper.DATA["commands_m5"]
    sample.train("commands_m5", model, recipe, layout, lambda split: heard, augment)
    again, card = load_model("commands_m5"), yaml.safe_load((tmp_path / "models/commands_m5.yaml").read_text())
    assert torch.equal(again(waves).argmax(1), model.cpu()(waves).argmax(1))
    assert card["data"] == {"layout": "speech_commands_v0.02", "train": 8, "held_out": 8}


def test_recipes_of_paper_5_leave_weights_and_cards_beside_the_data(tmp_path, monkeypatch):
    """On a handful of generated cities and notes, for one epoch."""
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    monkeypatch.setattr(paper, "load_radiomapseer", lambda n, cities: make_radio_maps(20, len(cities)))
    clips = make_notes(80, 0)
    played = Labelled(clips.waves[:, None], clips.instruments[:, 0], ())
    monkeypatch.setattr(paper, "load_nsynth", lambda n, part: played)
    monkeypatch.setattr(radio, "EPOCHS", 1)
    monkeypatch.setitem(spectra.RECIPES, "spectra_resnet", {"epochs": 1, "learning_rate": 1e-3})
    paper.make(["radiomapseer_phi0", "nsynth_resnet"])
    assert load_model("radiomapseer_phi0")(torch.zeros(1, 2, 256, 256)).shape == (1, 1, 256, 256)
    assert load_model("nsynth_resnet")(torch.zeros(1, 2, 1024)).shape == (1, 10)
    for name, layout in (("radiomapseer_phi0", "radiomapseer"), ("nsynth_resnet", "nsynth")):
        card = yaml.safe_load((tmp_path / f"models/{name}.yaml").read_text())
        assert card["data"]["layout"] == layout and card["training"]["epochs"] == 1


def test_fine_tuning_starts_from_imagenet_and_learns_the_last_block(monkeypatch):
    learned = torch.nn.ModuleDict({"classifier": torchvision.models.resnet50()})
    monkeypatch.setattr(paper, "load_model", lambda name: learned)
    model = paper.fine_tuned(load_model("animals_resnet50", pretrained=False))
    assert torch.equal(model.classifier.layer1[0].conv1.weight, learned["classifier"].layer1[0].conv1.weight)
    assert model.classifier.fc.out_features == 80
    trainable = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {"layer4", "fc"}
