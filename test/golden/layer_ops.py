"""Writes test/golden/layer_ops/: inputs, outputs and gradients of norms, activations, embeddings, cross-entropy, column ops and AdamW.

Needs: torch, transformers.  Run: python test/golden/layer_ops.py
Inputs are float32 values; everything is computed from them in float64 (AdamW: in float32, step by step, as torch.optim.AdamW does it).
"""

import torch
import torch.nn.functional as F
from transformers import get_scheduler

from op_cases import OUT, plain, randn, save

torch.manual_seed(20240607)


def with_grads(y, dy, leaves, **more):
    """A case: the leaves, y, dy and dy's pull-back to every leaf."""
    g = torch.autograd.grad(y, list(leaves.values()), dy, retain_graph=True)
    return {**more, **leaves, "dy": dy, "y": y, **{f"d{k}": v for k, v in zip(leaves, g)}}


# Norms: RMSNorm (Llama), with 1 + weight (Gemma), LayerNorm with and without bias.
cases = []
for M, C, std in [(1, 4, 1), (3, 36, 5), (33, 20, 0.01), (2, 260, 1)]:
    x, w, b, dy = randn(M, C, std=std), randn(C), randn(C), randn(M, C).detach()
    with torch.no_grad():
        x += 0.5 * std
    eps = 1e-5
    rms = x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)
    shape = dict(M=M, C=C, eps=eps)
    cases += [
        with_grads(rms * w, dy, dict(x=x, w=w), kind="rms", **shape),
        with_grads(rms * (1 + w), dy, dict(x=x, w=w), kind="rms_one_plus", **shape),
        with_grads(F.layer_norm(x, (C,), w, b, eps), dy, dict(x=x, w=w, b=b), kind="layer", **shape),
        with_grads(F.layer_norm(x, (C,), w, None, eps), dy, dict(x=x, w=w), kind="layer_no_bias", **shape),
    ]
save("norm", cases)

# Activations. gate | up side by side in one input; a few large values reach the flat ends.
cases = []
for M, W in [(1, 8), (3, 24), (5, 40)]:
    x = randn(M, W, std=3)
    with torch.no_grad():
        x[0, 0], x[0, 1], x[0, 2] = 30.0, -30.0, 0.0
    x32 = x.detach().float().double().requires_grad_()
    gate, up = x32[:, : W // 2], x32[:, W // 2 :]
    half, full = randn(M, W // 2).detach(), randn(M, W).detach()
    for kind, y, dy in [
        ("swiglu", F.silu(gate) * up, half),
        ("geglu_tanh", F.gelu(gate, approximate="tanh") * up, half),
        ("geglu_erf", F.gelu(gate) * up, half),
        ("gelu_tanh", F.gelu(x32, approximate="tanh"), full),
        ("gelu_erf", F.gelu(x32), full),
    ]:
        cases.append(with_grads(y, dy, dict(x=x32), kind=kind, M=M, W=W))
save("activation", cases)

# Embedding: repeated ids, and a trainable prompt of P rows before each of B sequences of T.
cases = []
for V, C, B, T, P in [(7, 4, 1, 1, 1), (11, 12, 3, 5, 3), (40, 32, 2, 33, 2)]:
    table, prompt = randn(V, C), randn(P, C)
    ids = torch.randint(0, V, (B, T))
    ids[-1, -1] = V - 1
    y = F.embedding(ids, table)
    plain_case = with_grads(1.5 * y.reshape(B * T, C), randn(B * T, C).detach(), dict(table=table), kind="embed", scale=1.5)
    joined = torch.cat([prompt.expand(B, P, C), y], 1).reshape(B * (P + T), C)
    prompt_case = with_grads(joined, randn(B * (P + T), C).detach(), dict(prompt=prompt, table=table), kind="prompt")
    cases += [{**c, "V": V, "C": C, "B": B, "T": T, "P": P, "ids": ids} for c in (plain_case, prompt_case)]
save("embedding", cases)

# Cross-entropy: rows of logits, one of them with a spread that overflows a naive exp.
cases = []
for n, V in [(1, 3), (3, 33), (5, 200), (2, 1030)]:
    logits = randn(n, V, std=4)
    with torch.no_grad():
        logits[0, 0] = 300.0
        logits[0, 1] = -300.0
    logits = logits.detach().float().double().requires_grad_()
    targets = torch.randint(0, V, (n,))
    loss = F.cross_entropy(logits, targets, reduction="none")
    scale = 1 / 7
    (g,) = torch.autograd.grad(loss.sum() * scale, logits)
    cases.append(dict(n=n, V=V, scale=scale, logits=logits, targets=targets, loss=loss, dlogits=g))
save("cross_entropy", cases)

# Scales and shifts of columns.
cases = []
for M, N in [(1, 4), (3, 36), (130, 4)]:
    x, c, dy = randn(M, N), randn(N), randn(M, N).detach()
    cases += [with_grads(x * c, dy, dict(x=x, c=c), kind="mul", M=M, N=N), with_grads(x + c, dy, dict(x=x, c=c), kind="add", M=M, N=N)]
save("columns", cases)

# AdamW over three steps with clip_grad_norm_, two parameter groups as LoRA+ has them.
cases = []
for decay, clip in [(0.0, 0.0), (0.1, 1.0)]:
    a, b = (torch.randn(128) * 0.5).requires_grad_(), (torch.randn(64) * 0.5).requires_grad_()
    start = torch.cat([a, b]).detach().clone()
    lr, ratio = 1e-2, 16.0
    opt = torch.optim.AdamW([{"params": [a]}, {"params": [b], "lr": lr * ratio}], lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay)
    steps = []
    for _ in range(3):
        a.grad, b.grad = torch.randn(128), torch.randn(64)
        grad = torch.cat([a.grad, b.grad]).clone()
        norm = torch.nn.utils.clip_grad_norm_([a, b], clip if clip else float("inf"))
        opt.step()
        m, v = (torch.cat([opt.state[p][k] for p in (a, b)]) for k in ("exp_avg", "exp_avg_sq"))
        steps.append({k: plain(t.clone()) for k, t in dict(grad=grad, norm=norm, param=torch.cat([a, b]), m=m, v=v).items()})
    cases.append(dict(lr=lr, ratio=ratio, decay=decay, clip=clip, start=start, steps=steps))
save("adamw", cases)

# Learning-rate multipliers of steps 1 … total + 2.
cases = []
for kind in ["constant", "linear", "cosine"]:
    for warmup, total in [(0, 10), (3, 10), (5, 5), (1, 1), (4, 2)]:
        opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        name = "constant_with_warmup" if kind == "constant" and warmup else kind
        sched = get_scheduler(name, opt, num_warmup_steps=warmup, num_training_steps=total)
        rates = []
        for _ in range(total + 2):
            rates.append(sched.get_last_lr()[0])
            opt.step()
            sched.step()
        cases.append(dict(schedule=kind, warmup=warmup, total=total, rates=rates))
save("schedule", cases)
