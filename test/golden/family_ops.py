"""Writes test/golden/layer_ops/{head_norm,softcap}.json: norms of heads and soft-capped cross-entropy, in float64 from float32 values.

Needs: torch.  Run: python test/golden/family_ops.py
"""

import torch
import torch.nn.functional as F

from op_cases import randn, save

torch.manual_seed(20261123)


cases = []
for M, H, KV, D, one_plus in [(1, 1, 1, 4, False), (3, 4, 2, 12, False), (70, 2, 1, 8, True), (5, 1, 1, 256, True)]:
    x, wq, wk = randn(M, (H + 2 * KV) * D, std=3), randn(D), randn(D)
    eps = 1e-5
    heads = x.reshape(M, H + 2 * KV, D)
    n = heads / torch.sqrt((heads * heads).mean(-1, keepdim=True) + eps)
    q, k = ((1 + w) if one_plus else w for w in (wq, wk))
    y = torch.cat([n[:, :H] * q, n[:, H : H + KV] * k, heads[:, H + KV :]], 1).reshape(M, -1)
    dy = randn(M, (H + 2 * KV) * D).detach()
    dx, dwq, dwk = torch.autograd.grad(y, [x, wq, wk], dy)
    cases.append(dict(M=M, H=H, KV=KV, D=D, eps=eps, onePlus=one_plus, x=x, wq=wq, wk=wk, dy=dy, y=y, dx=dx, dwq=dwq, dwk=dwk))
save("head_norm", cases)

cases = []
for n, V, cap in [(1, 4, 30.0), (3, 33, 5.0), (2, 1028, 50.0)]:
    logits = randn(n, V, std=12)
    with torch.no_grad():
        logits[0, 0], logits[0, 1] = 3000.0, -3000.0
    logits = logits.detach().float().double().requires_grad_()
    targets = torch.randint(2, V, (n,))
    capped = cap * torch.tanh(logits / cap)
    loss = F.cross_entropy(capped, targets, reduction="none")
    scale = 1 / 7
    (g,) = torch.autograd.grad(loss.sum() * scale, logits)
    cases.append(dict(n=n, V=V, cap=cap, scale=scale, logits=logits, targets=targets, loss=loss, dlogits=g, capped=capped))
save("softcap", cases)
