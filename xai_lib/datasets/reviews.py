"""Reviews: short film reviews drawn from a grammar, with the words that decide whether they are positive.

A review is a chain of clauses. One of them, the verdict, decides: a statement about the film itself, plain ("the
film is gripping"), negated ("is hardly gripping"), or with a concession that does not count ("although it is slow, the
film is gripping", "it is slow but gripping"). All others are beside the point, whatever their sentiment: the seats
were superb, a neighbour hated it, it runs for two hours. Deciding words are the adjective of the verdict and its
negation. Every eighth adjective or so is too rare for the vocabulary, so that no network is always right.

Ridge classification of word counts, trained on 8,000 reviews, is right on 53 % of 1,000 others (chance: 50 %).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CLASSES = ("negative", "positive")
PAD, UNKNOWN = "<pad>", "<unk>"
LENGTH = 42  # tokens; no review is longer


def _phrases(text: str) -> list[str]:
    return text.split("|")


ADJECTIVES = (
    _phrases(
        "awful|boring|clumsy|dull|feeble|flat|forgettable|hollow|lifeless|messy|predictable|shallow|slow|stale|tedious|"
        "tiresome|ugly|weak"
    ),
    _phrases(
        "beautiful|brilliant|charming|clever|elegant|fresh|funny|gripping|inventive|lively|moving|rich|stunning|subtle|"
        "superb|tender|thrilling|warm"
    ),
)
RARE = (  # not in the vocabulary: a network has to guess them
    _phrases("insipid|turgid|vapid|stilted|torpid|maudlin"),
    _phrases("luminous|sublime|riveting|exquisite|winsome|spellbinding"),
)
VERBS = (_phrases("hated|loathed|disliked|despised"), _phrases("loved|adored|enjoyed|admired"))
FILMS = _phrases("the film|the movie|this film|this movie|the whole thing|the picture")
THINGS = _phrases("the seats were|the popcorn was|the poster is|the trailer was|the cinema is|the foyer was")
PEOPLE = _phrases("my neighbour|my brother|some critic|everyone else|the man beside me")
NEGATIONS = _phrases("not|never|hardly|far from|anything but")
DEGREES = _phrases("|very|rather|quite|really|so")
NEUTRAL = _phrases(
    "i saw it on a rainy tuesday|we went with two friends|it runs for two hours|the plot is set in a harbour town|"
    "a young captain looks for his sister|there is a long scene on a train|it was shot in black and white|"
    "the director also wrote the music|half of the cast is unknown|most of it happens at night"
)


class Reviews(NamedTuple):
    """n reviews."""

    texts: list[list[str]]  # words of each review
    labels: Tensor  # (n,) int64, indices into CLASSES
    deciding: Tensor  # (n, LENGTH) bool: the words that decide the label
    turns: Tensor  # (n, LENGTH) bool: negations and words of contrast, deciding or not


def make_reviews(n: int, seed: int) -> Reviews:
    """Draw n reviews; of every two one is positive; review i depends on (seed, i) alone."""
    texts, labels, deciding, turns = [], [], torch.zeros(n, LENGTH, dtype=bool), torch.zeros(n, LENGTH, dtype=bool)
    for i in range(n):
        label = int(np.random.default_rng([seed, 0, i // 2]).integers(2) + i) % 2
        words = _review(label, np.random.default_rng([seed, 1, i]))
        texts.append([word for word, *_ in words])
        labels.append(label)
        deciding[i, : len(words)] = torch.tensor([decides for _, decides, _ in words])
        turns[i, : len(words)] = torch.tensor([turn for *_, turn in words])
    return Reviews(texts, torch.tensor(labels), deciding, turns)


class Vocabulary:
    """Words and their indices: 0 pads, 1 stands for every unknown word."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = (PAD, UNKNOWN, *words)
        self.index = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, texts: Sequence[Sequence[str]], length: int = LENGTH) -> Tensor:
        """Indices (n, length) of the words of each text; longer texts are cut, shorter ones padded at their end."""
        tokens = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in zip(tokens, texts, strict=True):
            known = [self.index.get(word, 1) for word in text[:length]]
            row[: len(known)] = torch.tensor(known)
        return tokens


_Word = tuple[str, bool, bool]  # the word, whether it decides, whether it is a negation or a contrast


def _plain(text: str) -> list[_Word]:
    return [(word, False, word in ("but", "although", "though", "yet")) for word in text.split()]


def _judged(sentiment: int, decides: bool, rng: np.random.Generator) -> list[_Word]:
    """An adjective of that sentiment, or, about every third time, one of the other sentiment negated."""
    negated = rng.random() < 0.35
    adjective = str(rng.choice((RARE if rng.random() < 0.12 else ADJECTIVES)[sentiment ^ negated]))
    negation = [(word, decides, True) for word in str(rng.choice(NEGATIONS)).split()] if negated else []
    return [*negation, *([] if negated else _plain(str(rng.choice(DEGREES)))), (adjective, decides, False)]


def _verdict(label: int, rng: np.random.Generator) -> list[_Word]:
    film = f"{rng.choice(FILMS)} is"
    decisive = _judged(label, True, rng)
    conceded = _judged(1 - label if rng.random() < 0.8 else label, False, rng)
    match rng.integers(5):
        case 0:
            return _plain(f"although {film}") + conceded + _plain(", it is") + decisive
        case 1:
            return _plain(film) + conceded + _plain("but") + decisive
        case 2:
            return _plain(film) + decisive + _plain("though") + conceded
        case _:
            return _plain(film) + decisive


def _aside(rng: np.random.Generator) -> list[_Word]:
    """A clause that says nothing about the film: about something else, somebody else's opinion, or neutral."""
    sentiment = int(rng.integers(2))
    match rng.integers(4):
        case 0:
            return _plain(str(rng.choice(THINGS))) + _judged(sentiment, False, rng)
        case 1:
            return _plain(f"{rng.choice(PEOPLE)} {rng.choice(VERBS[sentiment])} it")
        case _:
            return _plain(str(rng.choice(NEUTRAL)))


def _review(label: int, rng: np.random.Generator) -> list[_Word]:
    clauses = [_aside(rng) for _ in range(rng.integers(1, 4))]
    clauses.insert(int(rng.integers(len(clauses) + 1)), _verdict(label, rng))
    return [word for clause in clauses for word in [*clause, (".", False, False)]]


VOCABULARY = Vocabulary(
    sorted(
        {
            word
            for text in (*ADJECTIVES, *VERBS, FILMS, THINGS, PEOPLE, NEGATIONS, DEGREES, NEUTRAL)
            for phrase in text
            for word in phrase.split()
        }
        | {"is", "it", "but", "although", "though", ",", "."}
    )
)
