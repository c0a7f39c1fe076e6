"""Compares a folder that `saveModel` wrote, and an `expected.json` beside its weights, with Hugging Face transformers.

    pip install torch transformers && python check.py FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

folder = Path(sys.argv[1])
expected = json.loads((folder / "expected.json").read_text())
model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
with torch.no_grad():
    logits = model.eval()(torch.tensor(expected["ids"])).logits
difference = (logits - torch.tensor(expected["logits"])).abs().max().item()
print(type(model).__name__, {key: value for key, value in info.items() if value}, f"largest difference {difference:.2g}")
sys.exit(difference > 1e-4)
