"""Small data files, one per format and way of writing it, and broken ones. Ours.

    python test/golden/data_files.py      (needs pyarrow)

Writes test/fixtures/data/{good,broken}/.
"""
import gzip
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).parent.parent / "fixtures" / "data"
for d in ("good", "broken"):
    (OUT / d).mkdir(parents=True, exist_ok=True)

ASK = [("What does the heron eat?", "Small fish."), ("Who lit the lamps?", "Mira, at dusk."), ("Where is the pier?", "West of the harbour.")]
lines = lambda rows: "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
turns = lambda q, a: [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
said = lambda q, a: [{"from": "human", "value": q}, {"from": "gpt", "value": a}]


def put(name: str, content: str | bytes) -> None:
    (OUT / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def good() -> None:
    put("good/instruction.jsonl", lines([{"instruction": q, "input": "", "output": a} for q, a in ASK] + [{"instruction": "Say it backwards.", "input": "tide", "output": "edit"}]))
    put("good/instruction.json", json.dumps([{"instruction": q, "output": a} for q, a in ASK], indent=2))
    put("good/messages.jsonl", lines([{"messages": [{"role": "system", "content": "Be brief."}] + turns(q, a)} for q, a in ASK] + [{"messages": turns(*ASK[0]) + turns(*ASK[1])}]))
    put("good/openai-parts.jsonl", lines([{"messages": [{"role": "user", "content": [{"type": "text", "text": q}]}, {"role": "assistant", "content": a}]} for q, a in ASK]))
    put("good/one-conversation.json", json.dumps({"messages": turns(*ASK[0])}, indent=1))
    put("good/sharegpt.json", json.dumps([{"id": str(i), "conversations": said(q, a)} for i, (q, a) in enumerate(ASK)]))
    put("good/prompt-completion.jsonl", lines([{"prompt": q + " ", "completion": a} for q, a in ASK]))
    put("good/prompt-as-messages.jsonl", lines([{"prompt": turns(q, a)[:1], "completion": turns(q, a)[1:]} for q, a in ASK]))
    put("good/preference.jsonl", lines([{"prompt": q, "chosen": a, "rejected": "No."} for q, a in ASK]))
    put("good/question-answer.csv", "question,answer\r\n" + "".join(f'"{q}","{a}"\r\n' for q, a in ASK) + '"Two\r\nlines, and a ""quote""?",Yes\r\n')
    put("good/semicolons-bom.csv", b"\xef\xbb\xbf" + "input;target\nÜber was?;Über das Meer\nQuand?;À l'été\n".encode())
    put("good/utf16.csv", "﻿prompt,completion\nwhere?,日本\nwhen?,🎉 now\n".encode("utf-16-le"))
    put("good/two-columns.csv", "de,en\nFisch,fish\nReiher,heron\n")
    put("good/query-response.tsv", "query\tresponse\n" + "".join(f"{q}\t{a}\n" for q, a in ASK))
    put("good/paragraphs.txt", "The harbour was quiet\nwhen the lamps were lit.\n\n\nA heron stood on the pier.\n\nIt watched the tide.\n")
    put("good/lines.txt", "The tide goes out.\nThe heron waits.\nThe tide comes in.")
    put("good/text-label.jsonl", lines([{"text": "ground beef on a bun", "label": "food"}, {"text": "a native of Tahiti", "label": "person"}]))
    put("good/wrapped.json", json.dumps({"version": 2, "tags": ["a", "b"], "data": [{"question": q, "answer": a} for q, a in ASK], "license": "none"}))
    put("good/tokens.jsonl", lines([{"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}, {"input_ids": [9, 10], "labels": [-100, 10]}]))
    pq.write_table(pa.table({"input_ids": pa.array([[5, 6, 7], [8, 9]], pa.list_(pa.int64()))}), OUT / "good/tokens.parquet", compression="none")
    pq.write_table(pa.table({"messages": [turns(q, a) for q, a in ASK], "source": ["x"] * 3}), OUT / "good/messages.parquet", compression="zstd")
    pq.write_table(pa.table({"instruction": [q for q, _ in ASK], "input": [None, "", "x"], "output": [a for _, a in ASK]}), OUT / "good/instruction.parquet", compression="snappy", row_group_size=2)


def broken() -> None:
    ok = [{"prompt": q, "completion": a} for q, a in ASK]
    put("broken/bad-json.jsonl", lines(ok[:2]) + '{"prompt": "x", "completion": y}\n' + lines(ok[2:]))
    put("broken/cut-off.jsonl", lines(ok) + '{"prompt": "What does the her')
    put("broken/latin1.jsonl", lines(ok[:1]).encode() + '{"prompt": "Café?", "completion": "fermé"}\n'.encode("latin-1") + lines(ok[1:]).encode())
    put("broken/nul.jsonl", lines(ok[:1]).encode() + b'{"prompt": "a\x00b", "completion": "c"}\n' + lines(ok[1:]).encode())
    put("broken/not-an-object.jsonl", lines(ok[:1]) + "[1, 2]\n17\n" + lines(ok[1:]))
    put("broken/missing-field.jsonl", lines(ok[:1]) + '{"prompt": "What?"}\n{"prompt": "Why?", "completion": null}\n' + lines(ok[1:]))
    put("broken/empty-answers.jsonl", lines(ok[:1]) + '{"prompt": "What?", "completion": "  "}\n' + lines(ok[1:]))
    put("broken/fields.csv", "prompt,completion\na,b\nc,d,e\nf\ng,h\n")
    put("broken/open-quote.csv", 'prompt,completion\na,b\n"c,d\ne,f\ng,h\n')
    put("broken/stray-quote.csv", 'prompt,completion\na,b\n"c"x,d\ne,f\n')
    put("broken/mixed-encodings.csv", b"prompt,completion\na,b\nCaf\xe9,d\n\xc3\xa9t\xc3\xa9,f\n")
    put("broken/roles.jsonl", lines([{"messages": turns(*ASK[0])}, {"messages": [{"role": "narrator", "content": "x"}]}, {"messages": turns(*ASK[1])[:1]}, {"messages": []}, {"messages": "hi"}, {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None}]}]))
    put("broken/labels.jsonl", lines([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [5, 6], "labels": [5]}, {"input_ids": [5, 6.5]}, {"input_ids": [5, 99999]}, {"input_ids": [5, 6], "labels": [-1, 6]}, {"input_ids": [5, 6], "labels": [-100, -100]}, {"input_ids": []}]))
    put("broken/element.json", '[\n  {"prompt": "a", "completion": "b"},\n  {"prompt": "c", completion: "d"},\n  7,\n  {"prompt": "e", "completion": "f"}\n]\n')
    put("broken/cut-off.json", '[\n  {"prompt": "a", "completion": "b"},\n  {"prompt": "c", "completion": "d"},\n  {"prompt": "e", "compl')
    parquet = (OUT / "good/instruction.parquet").read_bytes()
    put("broken/cut-off.parquet", parquet[:-20])
    put("broken/footer.parquet", parquet[:-8] + (2**31).to_bytes(4, "little") + b"PAR1")
    damaged = bytearray(parquet)
    damaged[4:40] = bytes(36)
    put("broken/page.parquet", bytes(damaged))
    put("broken/not.parquet", "prompt,completion\n")
    put("broken/empty.jsonl", "")
    put("broken/blank.txt", " \n\n\t\n")
    put("broken/utf16-without-bom.txt", "The tide goes out again.\n".encode("utf-16-le"))
    put("broken/packed.jsonl", gzip.compress(lines(ok).encode(), mtime=0))
    put("broken/columns.csv", "a,b,c\n1,2,3\n")
    put("broken/header-only.csv", "prompt,completion\n")
    put("broken/not-json.jsonl", "prompt: a\ncompletion: b\n")


good()
broken()
