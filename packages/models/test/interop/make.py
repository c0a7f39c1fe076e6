"""Writes ../fixtures: tiny random models of Hugging Face transformers with the logits that it computes for them.

    pip install torch transformers && python make.py
"""

import json
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

FIXTURES = Path(__file__).parent.parent / "fixtures"
IDS = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9, 79, 3, 23, 84], [2, 7, 1, 8, 28, 18, 28, 45, 90, 4, 5, 23, 53, 60, 28, 74]]

MODELS = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=96,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 20.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
            initializer_range=0.3,
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=96, n_positions=32, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=0, eos_token_id=0)
    ),
}


def jitter(model):
    """Biases and norms start at 0 and 1, where a mistake would not show."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))


for name, make in MODELS.items():
    torch.manual_seed(0)
    model = make().eval()
    jitter(model)
    model.save_pretrained(FIXTURES / name)
    (FIXTURES / name / "generation_config.json").unlink(missing_ok=True)
    with torch.no_grad():
        logits = model(torch.tensor(IDS)).logits
    expected = {"ids": IDS, "logits": [[[round(x, 6) for x in row] for row in text] for text in logits.tolist()]}
    (FIXTURES / name / "expected.json").write_text(json.dumps(expected) + "\n")
