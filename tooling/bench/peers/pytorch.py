"""The models of gpt.mjs and llama.mjs in PyTorch: `python3 pytorch.py <gpt | llama-full | llama-lora>`, on stdin's lines."""

import json
import math
import os
import resource
import sys
import time

import numpy as np
import torch
from torch.nn import functional as F

torch.set_num_threads(int(os.environ["ASHLAR_THREADS"]))


def noise(size, seed):
    i = np.arange(size, dtype=np.uint32)
    x = (i + np.uint32(seed * 100003 + 1)) * np.uint32(2654435761)
    x = (x ^ ((i + np.uint32(seed)) >> np.uint32(3))) * np.uint32(2246822519)
    return (x.astype(np.float64) / 2**32 - 0.5).astype(np.float32)


def normal(shape, seed, scale):
    values = np.float32(scale) * noise(math.prod(shape), seed)
    return torch.from_numpy(values.astype(np.float32)).reshape(shape).requires_grad_()


class Gpt:
    """Loss, gradients and a step of gradient descent."""

    batch, length, width, heads, layers, words, rate = 8, 128, 256, 4, 4, 1000, 0.1

    def __init__(self):
        w, seed = self.width, iter(range(100))
        self.embedding = normal([self.words, w], next(seed), 0.07)
        self.position = normal([self.length, w], next(seed), 0.07)
        shapes = [[w, 3 * w], [w, w], [w, 4 * w], [4 * w, w]]
        self.blocks = [
            [normal(shape, next(seed), 0.07) for shape in shapes]
            + [torch.ones(w, requires_grad=True), torch.ones(w, requires_grad=True)]
            for _ in range(self.layers)
        ]
        self.parameters = [self.embedding, self.position, *(p for block in self.blocks for p in block)]
        i = torch.arange(self.batch * self.length)
        self.tokens = ((i * 7919) % self.words).reshape(self.batch, self.length)
        self.labels = (i * 104729) % self.words

    def loss(self):
        x = self.embedding[self.tokens] + self.position
        for qkv, out, up, down, scale1, scale2 in self.blocks:
            parts = (F.layer_norm(x, [self.width], scale1, eps=1e-5) @ qkv).split(self.width, -1)
            q, k, v = (t.unflatten(-1, [self.heads, -1]).transpose(1, 2) for t in parts)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + mixed.transpose(1, 2).flatten(2) @ out
            x = x + F.gelu(F.layer_norm(x, [self.width], scale2, eps=1e-5) @ up, approximate="tanh") @ down
        return F.cross_entropy((x @ self.embedding.T).flatten(0, 1), self.labels)

    def step(self):
        loss = self.loss()
        loss.backward()
        with torch.no_grad():
            for p in self.parameters:
                p -= self.rate * p.grad
                p.grad = None
        return loss.item()


class Llama:
    """Loss, gradients and AdamW; with `lora` only adapters of rank 8 on all projections train."""

    def __init__(self, setting, lora):
        self.s = setting
        self.weights = {}
        for seed, (name, shape) in enumerate(setting["weights"]):
            norm = "norm" in name
            weight = torch.ones(shape) if norm else normal(shape, seed, setting["scale"]).detach()
            self.weights[name] = weight.requires_grad_(not lora)
        self.adapters = {}
        if lora:
            for seed, (name, (out, inp)) in enumerate(setting["adapted"]):
                a = normal([setting["rank"], inp], 1000 + seed, setting["scale"])
                self.adapters[name] = (a, torch.zeros([out, setting["rank"]], requires_grad=True))
        trained = [p for pair in self.adapters.values() for p in pair] if lora else list(self.weights.values())
        self.optimizer = torch.optim.AdamW(trained, lr=setting["learningRate"], weight_decay=setting["weightDecay"])
        i = torch.arange(setting["batch"] * setting["length"])
        self.tokens = ((i * 7919) % setting["words"]).reshape(setting["batch"], setting["length"])
        self.labels = (i * 104729) % setting["words"]
        dim = setting["width"] // setting["heads"]
        angles = torch.outer(torch.arange(setting["length"]), 10000.0 ** (-torch.arange(0, dim, 2) / dim))
        self.cos, self.sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)

    def linear(self, x, name):
        y = F.linear(x, self.weights[f"{name}.weight"])
        if name in self.adapters:
            a, b = self.adapters[name]
            y = y + F.linear(F.linear(x, a), b) * (self.s["alpha"] / self.s["rank"])
        return y

    def norm(self, x, name):
        return F.rms_norm(x, [self.s["width"]], self.weights[f"{name}.weight"], self.s["epsilon"])

    def rotate(self, x):
        first, second = x.chunk(2, -1)
        return x * self.cos + torch.cat([-second, first], -1) * self.sin

    def loss(self):
        x = self.weights["model.embed_tokens.weight"][self.tokens]
        for i in range(self.s["layers"]):
            prefix = f"model.layers.{i}"
            h = self.norm(x, f"{prefix}.input_layernorm")
            q, k, v = (
                self.linear(h, f"{prefix}.self_attn.{p}_proj").unflatten(-1, [self.s["heads"], -1]).transpose(1, 2)
                for p in "qkv"
            )
            mixed = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=True)
            x = x + self.linear(mixed.transpose(1, 2).flatten(2), f"{prefix}.self_attn.o_proj")
            h = self.norm(x, f"{prefix}.post_attention_layernorm")
            gated = F.silu(self.linear(h, f"{prefix}.mlp.gate_proj")) * self.linear(h, f"{prefix}.mlp.up_proj")
            x = x + self.linear(gated, f"{prefix}.mlp.down_proj")
        logits = F.linear(self.norm(x, "model.norm"), self.weights["lm_head.weight"])
        return F.cross_entropy(logits.flatten(0, 1), self.labels)

    def step(self):
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss.item()


model = Gpt() if sys.argv[1] == "gpt" else Llama(json.loads(sys.argv[2]), sys.argv[1] == "llama-lora")
print(json.dumps({"version": f"torch {torch.__version__}"}), flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    loss = model.step()
    elapsed = 1000 * (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"ms": elapsed, "loss": loss, "peakMiB": peak}), flush=True)
