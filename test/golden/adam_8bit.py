"""8-bit AdamW: bitsandbytes' quantisation maps and its own PyTorch step (optimizer_update_8bit_blockwise_pytorch, blocks of 256), and the step of COAT
(Xi et al. 2024, https://arxiv.org/abs/2410.19313, section 4; constants as in its fp8_adamw_expand kernel: groups of 128, E4M3, exponents in sixteenths),
written down here in float64 around torch.float8_e4m3fn.

Made with torch 2.13.0, bitsandbytes 0.50.2: python test/golden/adam_8bit.py -> test/golden/layer_ops/adam_8bit.json
"""
import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

import torch

# The module beside the PyTorch step holds Triton kernels, which are not used here.
torch.compile = lambda f=None, **_: f or (lambda g: g)
import bitsandbytes.functional as F

for name in ["triton", "triton.language"]:
    sys.modules[name] = MagicMock()
from bitsandbytes.backends.triton.kernels_optim import optimizer_update_8bit_blockwise_pytorch as bnb_step

N, STEPS, BETA1, BETA2, EPS = 512, 4, 0.9, 0.999, 1e-8
CASES = [dict(lr=1e-2, decay=0.0), dict(lr=3e-3, decay=0.1)]
f32 = lambda t: [float(f"{v:.8g}") for v in t.flatten().tolist()]
maps = [F.create_dynamic_map(signed=s) for s in (True, False)]


def gradients(seed):
    """Sizes differ by up to a thousand within a block, and from block to block; a quarter of the second block is always zero."""
    g = torch.Generator().manual_seed(seed)
    spread = 10 ** (torch.rand(N, generator=g) * 3 - 3)
    spread[256:] *= 1e-4
    spread[256:320] = 0
    return [(torch.randn(N, generator=g) * spread).float() for _ in range(STEPS)]


def bitsandbytes(case, start, grads):
    p = start.clone()
    m, v = (torch.zeros(N, dtype=torch.uint8) for _ in range(2))
    am, av = (torch.zeros(N // 256) for _ in range(2))
    out = []
    for step, g in enumerate(grads, 1):
        bnb_step(p, g, m, v, BETA1, BETA2, 0.0, 0.0, EPS, step, case["lr"], maps[0], maps[1], am, av, case["decay"], 1.0, False, optimizer_name="adam")
        out.append(dict(param=f32(p), m=m.tolist(), v=v.tolist(), absmax_m=f32(am), absmax_v=f32(av)))
    return out[:1] + [dict(param=o["param"]) for o in out[1:-1]] + out[-1:]


def expand(x, groups):
    """Codes (bytes of E4M3), largest magnitude and exponent of each group; and what they decode to."""
    x = x.view(groups, -1)
    a = x.abs()
    largest = a.amax(1)
    smallest = torch.where(a > 0, a, torch.inf).amin(1)
    ratio = torch.log2(largest / smallest).nan_to_num(0, 0, 0)
    k = torch.floor(torch.log2(torch.tensor(448.0 * 448 / 2, dtype=torch.float64)) / ratio * 16) / 16
    k = k.clamp(1 / 16, 16).nan_to_num(16, 16)
    y = x.sign() * 448 * torch.where(largest[:, None] > 0, a / largest[:, None], 0) ** k[:, None]
    code = y.float().to(torch.float8_e4m3fn)
    f = code.double()
    back = f.sign() * largest[:, None] * (f.abs() / 448) ** (1 / k[:, None])
    return back.flatten(), largest, k


def coat(case, start, grads):
    p = start.double()
    m, v = torch.zeros(N, dtype=torch.float64), torch.zeros(N, dtype=torch.float64)
    out = []
    for step, g in enumerate(grads, 1):
        g = g.double()
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g * g
        c1, c2 = 1 - BETA1**step, (1 - BETA2**step) ** 0.5
        p = p - case["lr"] * (m / ((v.sqrt() / c2 + EPS) * c1) + case["decay"] * p)
        m, lm, km = expand(m, N // 128)
        v, lv, kv = expand(v, N // 128)
        out.append(dict(param=f32(p), m=f32(m), v=f32(v), k_m=km.tolist(), k_v=kv.tolist()))
    return out[:1] + [dict(param=o["param"]) for o in out[1:-1]] + out[-1:]


def main():
    cases = []
    for i, case in enumerate(CASES):
        grads = gradients(i)
        start = torch.randn(N, generator=torch.Generator().manual_seed(10 + i))
        cases.append(
            dict(case, start=f32(start), grads=[f32(g) for g in grads], adamw_8bit=bitsandbytes(case, start, grads), adamw_coat=coat(case, start, grads))
        )
    out = Path(__file__).parent / "layer_ops" / "adam_8bit.json"
    out.write_text(json.dumps(dict(maps=dict(signed=f32(maps[0]), unsigned=f32(maps[1])), cases=cases)) + "\n")
    print(out, out.stat().st_size)


main()
