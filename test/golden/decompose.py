"""Singular values and reconstruction errors of truncated factorisations, by NumPy in double precision.

Run: python test/golden/decompose.py  (numpy). Writes decompose.json beside it. Matrices are drawn by both sides from the generator in `draw`; those of rank q are a
sum of q outer products, rounded to float32 (which gives them a full rank at 1e-8).
"""

import json
import pathlib

import numpy as np


def draw(count, state):
    """A linear congruential generator modulo 2^32, values in -1 to 1."""
    out = np.empty(count)
    for i in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        out[i] = state / 2**32 * 2 - 1
    return out


def matrix(N, K, rank):
    if rank is None:
        W = draw(N * K, 7).reshape(N, K)
    else:
        W = sum((np.outer(draw(N, 10 * j + 1), draw(K, 10 * j + 2)) / (j + 1) for j in range(rank)), np.zeros((N, K)))
    return W.astype(np.float32).astype(np.float64)


cases = []
for N, K, rank, r in [(8, 8, None, 3), (40, 24, None, 8), (24, 40, None, 8), (200, 12, None, 4), (12, 200, None, 4), (160, 144, None, 8), (30, 20, 2, 4), (20, 30, 3, 3),
                      (16, 16, 0, 2), (6, 5, None, 8), (5, 1, None, 2), (48, 64, None, 1)]:
    W = matrix(N, K, rank)
    U, S, Vt = np.linalg.svd(W, full_matrices=False)
    best = (U[:, :r] * S[:r]) @ Vt[:r]
    Q, R = np.linalg.qr(W)
    qr = Q[:, :r] @ R[:r]
    cases.append({"N": N, "K": K, "rank": rank, "r": r, "singular": S[:r].tolist(), "svd_error": float(np.linalg.norm(W - best)), "qr_error": float(np.linalg.norm(W - qr)),
                  "norm": float(np.linalg.norm(W))})
text = ",\n".join(json.dumps(c) for c in cases)
(pathlib.Path(__file__).parent / "decompose.json").write_text(f"[\n{text}\n]\n")
