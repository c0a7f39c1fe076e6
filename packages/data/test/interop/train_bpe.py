"""Trains Hugging Face's own byte-level BPE on a small text and keeps what trainBpe must equal.

pip install tokenizers==0.23.3; python train_bpe.py
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

here = Path(__file__).parent
texts = json.loads((here / "texts.json").read_text(encoding="utf-8"))

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=400,
    min_frequency=2,
    special_tokens=["<|endoftext|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
tokenizer.train_from_iterator(texts, trainer)

model = json.loads(tokenizer.to_str())["model"]
vocab = sorted(model["vocab"], key=model["vocab"].get)
expected = {
    "merges": model["merges"],
    "vocab": vocab,
    "ids": [tokenizer.encode(text, add_special_tokens=False).ids for text in texts],
}
(here / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
