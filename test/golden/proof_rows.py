"""Which rows of a data file `npm run proof` holds out and which it trains on, in order: Python's random.Random(0).shuffle of all rows, the first 64 held out.

    python test/golden/proof_rows.py ../shared/data/devils-dictionary.sft.jsonl > test/golden/proof_rows.json

Indices are lines of the file, from 0. Made with Python 3.11; `shuffle` with a seeded generator is the same in every version since 3.2.
"""

import hashlib
import json
import pathlib
import random
import sys

HELD_OUT = 64

data = pathlib.Path(sys.argv[1])
content = data.read_bytes()
order = list(range(len(content.decode().splitlines())))
random.Random(0).shuffle(order)
print(
    json.dumps(
        {
            "file": data.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "rows": len(order),
            "held_out": order[:HELD_OUT],
            "train": order[HELD_OUT:],
        }
    )
)
