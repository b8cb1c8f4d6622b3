"""Chat templates of every family: what Transformers' apply_chat_template renders and which characters and tokens the assistant says.

    python test/golden/chat_templates.py           writes test/fixtures/data/golden/family_chat.json
    python test/golden/chat_templates.py --check   also renders the original templates with this project's renderer and compares

Needs transformers, trl (whose package holds the models' own templates: they are read, not copied), jinja2, gguf; --check needs Node. The templates in the fixture are
written here; this script refuses to write it unless each renders every conversation as the original does, errors included. Spans come from PIECES: plain
functions that say, without Jinja, what each turn looks like and what of it is trained.
"""

import datetime
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import trl
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "test" / "fixtures" / "data" / "golden"
ORIGINALS = pathlib.Path(trl.__file__).parent / "chat_templates"
SMOLLM2 = ROOT.parent / "shared" / "models" / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"
NOW = datetime.datetime(2026, 3, 5, 12)


class Fixed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = Fixed


def turn(role, content):
    return {"role": role, "content": content}


S, U, A = (lambda c, r=r: turn(r, c) for r in ("system", "user", "assistant"))
CHATS = {
    "one turn": [U("What does the heron eat?"), A("Small fish.")],
    "question only": [U("Why?")],
    "system": [S("You are brief."), U("Hi"), A("Hello.")],
    "system, question only": [S("You are brief."), U("Hi")],
    "system alone": [S("You are brief.")],
    "empty system": [S(""), U("Hi"), A("Hello.")],
    "system with spaces": [S("  You are brief.\n"), U("Hi"), A("Hello.")],
    "four turns with spaces": [U("One?"), A("  1, with spaces  "), U("\nTwo?\n"), A("\n2\n\n")],
    "six turns": [S("Count."), U("a"), A("1"), U("b"), A("2"), U("c"), A("3")],
    "same words": [U("yes"), A("yes"), U("yes"), A("yes")],
    "words of the template": [U("user"), A("assistant"), U("model"), A("system")],
    "user last": [U("Why?"), A("Because."), U("What?")],
    "empty question": [U(""), A("Ask me.")],
    "empty answer": [U("Well?"), A(""), U("And?"), A("Yes.")],
    "unicode": [U("日本語 🎉 — ẞ"), A("naïve café\u00a0e\u0301 \u200b👩‍👩‍👧"), U("Ελληνικά"), A("العربية")],
    "code": [U("Write code:\n```py\n{% if x %}{{ y }}{% endif %}\n```"), A("def f():\n    return {'a': [1, 2]}\n\n\tprint(\"{{ }}\")")],
    "quotes and slashes": [U("It's \"so\" \\n"), A("\\ ' \" \\\\ <b>&amp;</b>")],
    "end tokens inside": [U("say <|im_end|> <|eot_id|> <end_of_turn> <|end|>"), A("<|im_end|> <|eot_id|> <end_of_turn> <|end|> are tokens")],
    "thought before the answer": [U("2+2?"), A("<think>\nTwo and two.\n</think>\n\n4")],
    "thought, written in one line": [U("2+2?"), A("<think>Two and two.</think>4")],
    "thoughts in every turn": [U("2+2?"), A("<think>\nadd\n</think>\n\n4"), U("3+3?"), A("<think>\nadd again\n</think>\n\n6")],
    "thought that quotes the answer": [U("Say 4."), A("<think>\nI say 4.\n</think>\n\n4"), U("4"), A("4")],
    "thought and nothing else": [U("Hm?"), A("<think>\nhm\n</think>"), U("Well?"), A("Fine.")],
    "closing tag alone": [U("2+2?"), A("so</think>4")],
    "two questions": [U("One."), U("Two."), A("Both.")],
    "assistant first": [A("Welcome."), U("Hi"), A("Hello.")],
    "system later": [U("Hi"), A("Hello."), S("Now be brief."), U("Bye"), A("Bye.")],
    "tool's answer": [U("Weather?"), A("I look."), turn("tool", "rain"), A("It rains.")],
}  # fmt: skip

# Original template (file of TRL, or SmolLM2's own; TRL has not Qwen2's, which is ChatML with a system text of its own), and one of the same behaviour in other words.
CHATML = """{%- macro says(role, text) %}{{ '<|im_start|>' ~ role ~ '\n' ~ text ~ '<|im_end|>\n' }}{% endmacro -%}
{% if messages[0].role != 'system' %}{{ says('system', 'DEFAULT') }}{% endif -%}
{% for m in messages %}{{ says(m.role, m.content) }}{% endfor -%}
{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}{% endif %}"""
LLAMA_31 = """{%- macro header(role) %}{{ '<|start_header_id|>' ~ role ~ '<|end_header_id|>\n\n' }}{% endmacro -%}
{%- set today = TODAY -%}
{%- set has_system = messages[0]['role'] == 'system' -%}
{{- bos_token ~ header('system') ~ 'Cutting Knowledge Date: December 2023\nToday Date: ' ~ today ~ '\n\n' -}}
{{- (messages[0]['content'] | trim if has_system else '') ~ '<|eot_id|>' -}}
{%- for m in (messages[1:] if has_system else messages) -%}
{{- header('ipython') ~ (m['content'] | tojson) if m['role'] in ['tool', 'ipython'] else header(m['role']) ~ m['content'] | trim -}}
{{- '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ header('assistant') }}{% endif -%}"""
GEMMA_ALTERNATE = "{% if (m.role == 'user') == (loop.index0 is odd) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
TEMPLATES = {
    "smollm2": ("smollm2", CHATML.replace("DEFAULT", "You are a helpful AI assistant named SmolLM, trained by Hugging Face")),
    "qwen2": ("qwen2", CHATML.replace("DEFAULT", "You are a helpful assistant.")),
    "qwen2.5": ("qwen2_5", """{%- set ns = namespace(open=false) -%}
{%- if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}{% endif -%}
{%- for m in messages -%}
{%- if m.role == 'tool' -%}
{%- if not ns.open %}{{ '<|im_start|>user' }}{% set ns.open = true %}{% endif -%}
{{- '\n<tool_response>\n' ~ m.content ~ '\n</tool_response>' -}}
{%- if loop.last or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\n' }}{% set ns.open = false %}{% endif -%}
{%- else -%}
{{- '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}"""),
    "qwen3": ("qwen3", """{%- set ns = namespace(asked=messages | length - 1, found=false) -%}
{%- for m in messages[::-1] -%}
{%- if not ns.found and m.role == 'user' and not (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) -%}
{%- set ns.asked = loop.revindex0 -%}{%- set ns.found = true -%}
{%- endif -%}
{%- endfor -%}
{%- for m in messages -%}
{%- set thought, said = '', m.content -%}
{%- if m.role == 'assistant' and '</think>' in m.content -%}
{%- set thought = m.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].strip('\n') -%}
{%- set said = m.content.split('</think>')[-1].lstrip('\n') -%}
{%- endif -%}
{%- if m.role == 'tool' -%}
{{- ('<|im_start|>user' if loop.first or loop.previtem.role != 'tool' else '') ~ '\n<tool_response>\n' ~ m.content ~ '\n</tool_response>' -}}
{{- '<|im_end|>\n' if loop.last or loop.nextitem.role != 'tool' else '' -}}
{%- else -%}
{{- '<|im_start|>' ~ m.role ~ '\n' -}}
{%- if m.role == 'assistant' and loop.index0 > ns.asked and (loop.last or thought) -%}
{{- '<think>\n' ~ thought ~ '\n</think>\n\n' ~ said.lstrip('\n') -}}
{%- else -%}
{{- said -}}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif -%}"""),
    "llama3": ("llama3", """{%- for m in messages -%}
{{- bos_token if loop.first -}}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ '\n\n' ~ m.content.strip() ~ '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif -%}"""),
    "llama3.1": ("llama3_1", LLAMA_31.replace("TODAY", "date_string if date_string is defined else '26 Jul 2024'")),
    "llama3.2": ("llama3_2", LLAMA_31.replace("TODAY", "strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024'")),
    "gemma2": ("gemma", "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}" + GEMMA_ALTERNATE + "<start_of_turn>{{ {'assistant': 'model'}.get(m.role, m.role) }}{{ '\n' }}{{ m.content.strip() }}<end_of_turn>{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model{{ '\n' }}{% endif %}"),
    "gemma3": ("gemma3", """{{ bos_token }}
{%- set told = messages[0].content + '\n\n' if messages[0].role == 'system' else '' -%}
{%- for m in (messages[1:] if told else messages) -%}
""" + GEMMA_ALTERNATE + """
{{- '<start_of_turn>' ~ ('model' if m.role == 'assistant' else m.role) ~ '\n' ~ (told if loop.first else '') ~ m.content | trim ~ '<end_of_turn>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif -%}"""),
    "phi3": ("phi3", """{%- for m in messages if m.role in ('system', 'user', 'assistant') -%}
{{- '<|' ~ m.role ~ '|>\n' ~ m.content ~ '<|end|>\n' -}}
{%- endfor -%}
{{- '<|assistant|>\n' if add_generation_prompt else eos_token -}}"""),
}  # fmt: skip
# One of the tokenizer's own.
SPECIAL = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}


def chatml(messages, default=None, last_question=None, tools=True):
    """[(text, trained)] of ChatML; with `last_question`, Qwen3's handling of thoughts."""
    out = [] if default is None or messages[0]["role"] == "system" else [(f"<|im_start|>system\n{default}<|im_end|>\n", False)]
    for i, m in enumerate(messages):
        said = m["content"]
        if m["role"] == "tool" and tools:
            first, last = messages[i - 1]["role"] != "tool", i + 1 == len(messages) or messages[i + 1]["role"] != "tool"
            out.append(("<|im_start|>user" * first + f"\n<tool_response>\n{said}\n</tool_response>" + "<|im_end|>\n" * last, False))
            continue
        if m["role"] == "assistant" and last_question is not None:
            before, tag, after = said.rpartition("</think>")
            thought = said.partition("</think>")[0].rstrip("\n").rpartition("<think>")[2].strip("\n") if tag else ""
            said = after.lstrip("\n") if tag else said
            if i > last_question and (i + 1 == len(messages) or thought):
                said = f"<think>\n{thought}\n</think>\n\n" + said.lstrip("\n")
        out += [(f"<|im_start|>{m['role']}\n", False), (f"{said}<|im_end|>\n", m["role"] == "assistant" and m["content"].strip() != "")]
    return out


def qwen3(messages):
    questions = [i for i, m in enumerate(messages) if m["role"] == "user"]
    return chatml(messages, last_question=questions[-1] if questions else len(messages) - 1)


def llama(messages, dated):
    out = [(SPECIAL["bos_token"], False)]
    if dated:
        system = messages[0]["content"].strip() if messages[0]["role"] == "system" else ""
        messages = messages[1:] if messages[0]["role"] == "system" else messages
        out.append((f"<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: {dated}\n\n{system}<|eot_id|>", False))
    for m in messages:
        role, said = m["role"], m["content"].strip()
        if dated and role == "tool":
            role, said = "ipython", json.dumps(m["content"], ensure_ascii=False)
        out += [(f"<|start_header_id|>{role}<|end_header_id|>\n\n", False), (f"{said}<|eot_id|>", role == "assistant" and said != "")]
    return out


def gemma(messages, system=True):
    told = ""
    if messages[0]["role"] == "system" and system:
        told, messages = messages[0]["content"] + "\n\n", messages[1:]
    out = [(SPECIAL["bos_token"], False)]
    for i, m in enumerate(messages):
        role, said = "model" if m["role"] == "assistant" else m["role"], m["content"].strip()
        out += [(f"<start_of_turn>{role}\n{told if i == 0 else ''}", False), (f"{said}<end_of_turn>\n", role == "model" and said != "")]
    return out


def phi3(messages):
    known = [m for m in messages if m["role"] in ("system", "user", "assistant")]
    out = []
    for m in known:
        out += [(f"<|{m['role']}|>\n", False), (f"{m['content']}<|end|>\n", m["role"] == "assistant" and m["content"].strip() != "")]
    return out + [(SPECIAL["eos_token"], bool(out) and messages[-1]["role"] == "assistant" and out[-1][1])]


PIECES = {
    "smollm2": lambda m: chatml(m, "You are a helpful AI assistant named SmolLM, trained by Hugging Face", tools=False),
    "qwen2": lambda m: chatml(m, "You are a helpful assistant.", tools=False),
    "qwen2.5": lambda m: chatml(m, "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "qwen3": qwen3,
    "llama3": lambda m: llama(m, None),
    "llama3.1": lambda m: llama(m, "26 Jul 2024"),
    "llama3.2": lambda m: llama(m, "05 Mar 2026"),
    "gemma2": lambda m: gemma(m, system=False),
    "gemma3": gemma,
    "phi3": phi3,
}


def spans_of(pieces):
    """Merged [start, end) of what is trained, in UTF-16 units as JavaScript counts."""
    at, out = 0, []
    for text, trained in pieces:
        end = at + len(text.encode("utf-16-le")) // 2
        if trained and out and out[-1][1] == at:
            out[-1][1] = end
        elif trained:
            out.append([at, end])
        at = end
    return out


def char_spans(pieces):
    at, spans = 0, []
    for piece, trained in pieces:
        spans += [(at, at + len(piece))] if trained else []
        at += len(piece)
    return spans


def merged(spans):
    out = []
    for a, b in spans:
        if out and out[-1][1] == a:
            out[-1][1] = b
        else:
            out.append([a, b])
    return out


def marked_spans(original, messages):
    """Text and spans by Transformers (what return_assistant_tokens_mask goes by), where TRL has the template with its generation tags; else None. An empty answer
    teaches nothing here, and its closing token is not trained; there it is."""
    path = ORIGINALS / f"{original}_training.jinja"
    if not path.exists():
        return None
    try:
        texts, spans = chat_template_utils.render_jinja_template(
            conversations=[messages], chat_template=path.read_text(), return_assistant_tokens_mask=True, **SPECIAL)  # fmt: skip
    except Exception:
        return None
    # TRL's tags for Qwen2.5 begin before the newline that the generation prompt ends with; it is not the model's to say.
    return texts[0], [(a + texts[0][:a].endswith("assistant"), b) for a, b in spans[0]]


def tokens_of(tokenizer, text, pieces):
    """[first, end) of the trained tokens: those that end inside a trained piece."""
    spans = char_spans(pieces)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    runs = []
    for i, (_, end) in enumerate(encoded["offset_mapping"]):
        if any(a < end <= b for a, b in spans):
            if runs and runs[-1][1] == i:
                runs[-1][1] = i + 1
            else:
                runs.append([i, i + 1])
    return len(encoded["input_ids"]), runs


def originals():
    out = {p.stem: p.read_text() for p in sorted(ORIGINALS.glob("*.jinja")) if not p.stem.endswith("_training")}
    if SMOLLM2.exists():
        fields = gguf.GGUFReader(SMOLLM2).fields
        out["smollm2"] = fields["tokenizer.chat_template"].contents()
    return out


def render(tokenizer, template, messages):
    try:
        return [tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=g) for g in (False, True)]
    except Exception as e:  # the template's own message
        return str(e)


def main():
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "bytelevel.tokenizer.json"), **SPECIAL)
    sources, faults, agreed, cases = originals(), 0, 0, []
    for family, (original, own) in TEMPLATES.items():
        if original not in sources:
            print(f"{family}: the original is not here, so it was not compared")
        for name, messages in CHATS.items():
            mine = render(tokenizer, own, messages)
            theirs = render(tokenizer, sources.get(original, own), messages)
            if mine != theirs:
                faults += 1
                print(f"{family}, {name}: own template differs\n  {mine}\n  {theirs}")
            case = {"family": family, "chat": name}
            if isinstance(theirs, str):
                cases.append({**case, "error": theirs})
                continue
            pieces = PIECES[family](messages)
            if "".join(t for t, _ in pieces) != theirs[0]:
                faults += 1
                print(f"{family}, {name}: pieces differ\n  {''.join(t for t, _ in pieces)!r}\n  {theirs[0]!r}")
            marked = marked_spans(original, messages)
            if marked and marked[0] == theirs[0] and "empty" not in name and [list(x) for x in merged(marked[1])] != merged(char_spans(pieces)):
                faults += 1
                print(f"{family}, {name}: Transformers' mask differs\n  {marked[1]}\n  {char_spans(pieces)}")
            agreed += bool(marked) and marked[0] == theirs[0]
            count, trained = tokens_of(tokenizer, theirs[0], pieces)
            cases.append({**case, "text": theirs[0], "prompt": theirs[1], "spans": spans_of(pieces), "tokens": count, "trained": trained})
    if faults:
        sys.exit(f"{faults} differences: nothing written")
    fixture = {"now": NOW.isoformat(), "special": SPECIAL, "templates": {k: v for k, (_, v) in TEMPLATES.items()}, "chats": CHATS, "cases": cases}
    (GOLDEN / "family_chat.json").write_text(json.dumps(fixture, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(f"{len(cases)} renderings of {len(TEMPLATES)} families; {agreed} spans compared with Transformers' own mask")
    if "--check" in sys.argv:
        check(tokenizer, sources)


def check(tokenizer, sources):
    """This project's renderer on the originals: equal text, or an error where Transformers has one. Fails for a difference in the families of TEMPLATES; of the others
    some take images, and only lists of parts as content."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = [{"template": t, "messages": m} for t in sources.values() for m in CHATS.values()]
        (pathlib.Path(folder) / "in.json").write_text(json.dumps({"now": NOW.isoformat(), "special": SPECIAL, "jobs": jobs}))
        subprocess.run(["node", "scripts/run.mjs", "test/golden/chat_templates.ts", folder], cwd=ROOT, check=True)
        got = iter(json.loads((pathlib.Path(folder) / "out.json").read_text()))
    failed, families = 0, {original for original, _ in TEMPLATES.values()}
    for name, source in sources.items():
        wrong = []
        for chat, messages in CHATS.items():
            want, have = render(tokenizer, source, messages), next(got)
            if isinstance(want, str) != isinstance(have, str) or (not isinstance(want, str) and want != have):
                wrong.append((chat, want, have))
        failed += bool(wrong) and name in families
        print(f"{name + ('' if name in families else ' (other)'):32} {len(CHATS) - len(wrong)} of {len(CHATS)} equal" + (f"; first: {wrong[0]}" if wrong else ""))
    sys.exit(1 if failed else 0)


main()
