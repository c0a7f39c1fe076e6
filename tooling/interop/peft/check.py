"""Loads the adapters that write.ts wrote into Hugging Face peft and compares the logits.

    pip install torch transformers peft && python check.py FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

FIXTURES = Path(__file__).parent / "fixtures"
ids = torch.tensor(json.loads((FIXTURES / "ids.json").read_text()))

largest = 0
for folder in sorted(config.parent for config in Path(sys.argv[1]).glob("*/*/adapter_config.json")):
    base = AutoModelForCausalLM.from_pretrained(FIXTURES / folder.parent.name)
    with torch.no_grad():
        plain = base.eval()(ids).logits
        logits = PeftModel.from_pretrained(base, folder).eval()(ids).logits
    expected = load_file(folder / "expected.safetensors")["logits"]
    difference = (logits - expected).abs().max().item()
    effect = (logits - plain).abs().max().item()
    print(f"{folder.parent.name}/{folder.name}: largest difference {difference:.2g} (the adapter changes {effect:.2g})")
    assert effect > 0.05
    largest = max(largest, difference)
sys.exit(largest > 1e-4)
