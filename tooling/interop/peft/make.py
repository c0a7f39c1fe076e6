"""Writes fixtures/: tiny random models of Hugging Face transformers, adapters that Hugging Face peft attached to them
and saved, and the logits that it computes with each.

    pip install torch transformers peft && python make.py
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

FIXTURES = Path(__file__).parent / "fixtures"
IDS = [[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 28, 18, 28, 45]]

MODELS = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=48,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=32,
            initializer_range=0.3,
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=48, n_positions=16, n_embd=16, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=0, eos_token_id=0)
    ),
}

ADAPTERS = {
    "llama": {
        "lora": dict(r=4, lora_alpha=8, task_type="CAUSAL_LM"),
        "dora": dict(r=2, lora_alpha=4, target_modules="all-linear", use_dora=True),
        "rslora": dict(r=4, lora_alpha=4, target_modules=["o_proj", "up_proj"], use_rslora=True, lora_dropout=0.1),
        "regex": dict(r=2, target_modules=r".*\.(q|v)_proj", exclude_modules=r"model\.layers\.1\..*"),
        "layers": dict(r=2, target_modules=["q_proj", "down_proj"], layers_to_transform=[1], layers_pattern="layers"),
        "patterns": dict(
            r=2,
            lora_alpha=4,
            target_modules=["q_proj", "k_proj", "gate_proj"],
            exclude_modules=["layers.1.self_attn.k_proj"],
            rank_pattern={"q_proj": 4, r"^model\.layers\.0\.mlp\.gate_proj": 1},
            alpha_pattern={"layers.1.self_attn.q_proj": 16},
        ),
        "modules-to-save": dict(r=2, target_modules=["q_proj"], modules_to_save=["lm_head", "norm"]),
        "embedding": dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "v_proj", "lm_head"]),
        "embedding-dora": dict(r=4, lora_alpha=8, target_modules=["embed_tokens"], use_dora=True),
        "pissa": dict(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], init_lora_weights="pissa"),
        "pissa-converted": dict(
            r=2, target_modules=["q_proj", "k_proj"], init_lora_weights="pissa", rank_pattern={"k_proj": 3}
        ),
        "olora-converted": dict(r=2, lora_alpha=4, target_modules=["v_proj"], init_lora_weights="olora"),
    },
    "gpt2": {
        "lora": dict(r=4, lora_alpha=8, fan_in_fan_out=True),
        "dora": dict(r=2, target_modules=["c_attn", "c_proj", "c_fc"], use_dora=True, fan_in_fan_out=True),
        "bias-all": dict(r=2, target_modules=["c_attn"], bias="all", fan_in_fan_out=True),
        "bias-lora-only": dict(r=2, target_modules=["c_attn"], bias="lora_only", fan_in_fan_out=True),
        "lora-bias": dict(r=2, target_modules=["attn.c_proj"], lora_bias=True, fan_in_fan_out=True),
        "embedding": dict(r=2, target_modules=["wte", "c_fc"], fan_in_fan_out=True),
        "pissa-converted": dict(r=2, target_modules=["c_attn"], init_lora_weights="pissa", fan_in_fan_out=True),
    },
}


def logits(model):
    with torch.no_grad():
        return model.eval()(torch.tensor(IDS)).logits


def jitter(parameters):
    """Values that start at 0 or 1, where a mistake would not show, become random."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.2 * torch.randn_like(parameter))


def save_adapter(base, name, options):
    folder = FIXTURES / base / name
    model = MODELS[base]()
    model.load_state_dict(BASE_WEIGHTS[base])
    model = get_peft_model(model, LoraConfig(**options))
    config = model.peft_config["default"]
    with tempfile.TemporaryDirectory() as initial:
        conversion = {}
        if name.endswith("-converted"):
            init = config.init_lora_weights
            config.init_lora_weights = True
            model.save_pretrained(initial)
            config.init_lora_weights = init
            conversion = {"path_initial_model_for_weight_conversion": initial}
        jitter(parameter for parameter in model.parameters() if parameter.requires_grad)
        expected = logits(model)
        model.save_pretrained(folder, **conversion)
    (folder / "README.md").unlink()
    save_file({"logits": expected.contiguous()}, folder / "expected.safetensors")


shutil.rmtree(FIXTURES, ignore_errors=True)
BASE_WEIGHTS = {}
for base, make in MODELS.items():
    torch.manual_seed(0)
    model = make()
    jitter(parameter for parameter in model.parameters() if parameter.dim() == 1)
    BASE_WEIGHTS[base] = {name: value.clone() for name, value in model.state_dict().items()}
    model.save_pretrained(FIXTURES / base)
    (FIXTURES / base / "generation_config.json").unlink()
    for name, options in ADAPTERS[base].items():
        save_adapter(base, name, options)
(FIXTURES / "ids.json").write_text(json.dumps(IDS) + "\n")
