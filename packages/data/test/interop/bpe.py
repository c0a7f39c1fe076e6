"""Trains byte-level BPE with Python's tokenizers; what it writes, fixtures/bpe.json, is what trainBpe must give.

Run by hand: pip install tokenizers==0.23.3 && python bpe.py
"""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PROSE = [
    "Call me Ishmael. Some years ago--never mind how long precisely--having little or no money in my purse, and nothing "
    "particular to interest me on shore, I thought I would sail about a little and see the watery part of the world. It "
    "is a way I have of driving off the spleen and regulating the circulation. Whenever I find myself growing grim about "
    "the mouth; whenever it is a damp, drizzly November in my soul; whenever I find myself involuntarily pausing before "
    "coffin warehouses, and bringing up the rear of every funeral I meet; and especially whenever my hypos get such an "
    "upper hand of me, that it requires a strong moral principle to prevent me from deliberately stepping into the "
    "street, and methodically knocking people's hats off--then, I account it high time to get to sea as soon as I can.",
    "Ceci n'est pas une pipe, dit l'été à l'hiver.\r\n\r\n\tДо́брый день! 私は猫である。名前はまだ無い。 👩‍👩‍👧 1234 5678\n\n   end\u0085\ufeff x",
]


def syllables(seed: int) -> list[str]:
    """Words of few letters, in which many pairs are equally frequent and several merges make the same token."""
    rng = random.Random(seed)
    return [" ".join("".join(rng.choices("abc", k=rng.randint(1, 9))) for _ in range(40)) for _ in range(4)]


def case(texts: list[str], vocab_size: int, min_frequency: int, special_tokens: list[str]) -> dict:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    samples = [*texts, f"Ahab{special_tokens[0]}  Ishmael's 42 whales?!\n\n\n no", "é e\u0301 \0 𝒳"]
    return {
        "texts": texts,
        "options": {"vocabSize": vocab_size, "minFrequency": min_frequency, "specialTokens": special_tokens},
        "tokenizer": json.loads(tokenizer.to_str()),
        "encodings": [{"text": text, "ids": tokenizer.encode(text).ids} for text in samples],
    }


if __name__ == "__main__":
    cases = {
        "prose": case(PROSE, 320, 2, ["<|endoftext|>"]),
        "syllables": case(syllables(7), 400, 1, ["<s>", "</s>", "<pad>"]),
    }
    path = Path(__file__).parent / "fixtures" / "bpe.json"
    path.write_text(json.dumps(cases, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
