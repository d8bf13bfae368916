"""Chat templates of model families in small: written for these tests, with the features of each that a think format
depends on, and without tools, dates or system texts."""

from dataclasses import dataclass

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
THINK_OFF = "{% if enable_thinking is defined and not enable_thinking %}"
SPLIT = "{% set c = m.content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip() %}{% endif %}"
LAST = "{% if m.role == 'assistant' and loop.last %}"
ASKS = "{% if thinking %}Write your thoughts between <think></think>.{% endif %}"
CHATML = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
R1_TOKENS = ["<|User|>", "<|Assistant|>", "<|eos|>", "<think>", "</think>"]
R1_TURNS = (
    "{{ bos_token }}{% for m in messages %}"
    + SPLIT
    + "{% if m.role == 'user' %}<|User|>{{ c }}{% else %}<|Assistant|>{{ c }}<|eos|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>"
)
V3_TURNS = R1_TURNS.replace("<|Assistant|>{{ c }}", "<|Assistant|></think>{{ c }}")
GLM = ["<|user|>", "<|assistant|>", "<think>", "</think>"]


@dataclass(frozen=True)
class Family:
    """A template, its control tokens, and what is to be read off it.

    `on` and `off` are the ends of the prompts, `a` and `b` the paths of thought T and answer A.
    """

    template: str
    tokens: list[str]
    open: str
    opened: bool
    switch: str
    on: str
    off: str
    a: str
    b: str
    decision: str
    """The decision token; the paths share what stands in front of it."""


FAMILIES = {
    "R1-Distill": Family(
        R1_TURNS + "<think>\n{% endif %}",
        R1_TOKENS,
        "<think>",
        True,
        "none",
        "<|Assistant|><think>\n",
        "<|Assistant|><think>\n\n</think>\n\n",
        "\n</think>\n\nA<|eos|>",
        "T\n</think>\n\nA<|eos|>",
        "\n",
    ),
    "R1-0528-Qwen3-8B, Skywork-OR1": Family(
        R1_TURNS + "{% endif %}",
        R1_TOKENS,
        "<think>",
        False,
        "none",
        "<|Assistant|>",
        "<|Assistant|><think>\n\n</think>\n\n",
        "<think>\n\n</think>\n\nA<|eos|>",
        "<think>\nT\n</think>\n\nA<|eos|>",
        "\n\n",
    ),
    "DeepSeek-V3.1": Family(
        V3_TURNS + "{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}",
        R1_TOKENS,
        "<think>",
        True,
        "thinking=False",
        "<|Assistant|><think>",
        "<|Assistant|></think>",
        "</think>A<|eos|>",
        "T</think>A<|eos|>",
        "</think>",
    ),
    "QwQ, Qwen3-Thinking-2507": Family(
        TURNS + SPLIT + "{{ c }}" + END + "<think>\n{% endif %}",
        CHATML,
        "<think>",
        True,
        "none",
        "assistant\n<think>\n",
        "assistant\n<think>\n\n</think>\n\n",
        "\n</think>\n\nA<|im_end|>",
        "T\n</think>\n\nA<|im_end|>",
        "\n",
    ),
    "Qwen3": Family(
        TURNS
        + LAST
        + "<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}"
        + END
        + THINK_OFF
        + "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
        CHATML,
        "<think>",
        False,
        "enable_thinking=False",
        "assistant\n",
        "assistant\n<think>\n\n</think>\n\n",
        "<think>\n\n</think>\n\nA<|im_end|>",
        "<think>\nT\n</think>\n\nA<|im_end|>",
        "\n\n",
    ),
    "Qwen3.5": Family(
        TURNS
        + LAST
        + "<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}"
        + END
        + THINK_OFF
        + "{{ '<think>\n\n</think>\n\n' }}{% else %}{{ '<think>\n' }}{% endif %}{% endif %}",
        CHATML,
        "<think>",
        True,
        "enable_thinking=False",
        "assistant\n<think>\n",
        "assistant\n<think>\n\n</think>\n\n",
        "\n</think>\n\nA<|im_end|>",
        "T\n</think>\n\nA<|im_end|>",
        "\n",
    ),
    "GLM-4.5": Family(
        "{% for m in messages %}{% if m.role == 'user' %}<|user|>\n{{ m.content }}"
        + THINK_OFF
        + "/nothink{% endif %}{% else %}<|assistant|>\n<think>{{ m.reasoning_content }}</think>\n{{ m.content }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>"
        + THINK_OFF
        + "{{ '\n<think></think>' }}{% endif %}{% endif %}",
        GLM,
        "<think>",
        False,
        "enable_thinking=False",
        "<|assistant|>",
        "/nothink<|assistant|>\n<think></think>",
        "\n<think></think>\nA<|user|>",
        "\n<think>T</think>\nA<|user|>",
        "</think>",
    ),
    "GLM-4.7": Family(
        "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else %}<|assistant|>"
        "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}{% endif %}</think>{{ m.content }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>"
        + THINK_OFF
        + "</think>{% else %}<think>{% endif %}{% endif %}",
        GLM,
        "<think>",
        True,
        "enable_thinking=False",
        "<|assistant|><think>",
        "<|assistant|></think>",
        "</think>A<|user|>",
        "T</think>A<|user|>",
        "</think>",
    ),
    "Kimi-K2-Thinking": Family(
        "{% for m in messages %}<|im_{{ m.role }}|>{% if m.role == 'assistant' %}<think></think>{% endif %}"
        "{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_assistant|>{% endif %}",
        ["<|im_user|>", "<|im_assistant|>", "<|im_end|>", "<think>", "</think>"],
        "<think>",
        False,
        "none",
        "<|im_assistant|>",
        "<|im_assistant|><think></think>",
        "<think></think>A<|im_end|>",
        "<think>T</think>A<|im_end|>",
        "</think>",
    ),
    "Kimi-K2.5": Family(
        TURNS
        + "{{ m.content }}"
        + END
        + "<think>{% if thinking is defined and not thinking %}</think>{% endif %}{% endif %}",
        CHATML,
        "<think>",
        True,
        "thinking=False",
        "assistant\n<think>",
        "assistant\n<think></think>",
        "</think>A<|im_end|>",
        "T</think>A<|im_end|>",
        "</think>",
    ),
    "MiniMax-M2": Family(
        "{% for m in messages %}]b]{{ m.role }}\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}"
        "\n</think>\n\n{% endif %}{{ m.content }}[e[\n{% endfor %}"
        "{% if add_generation_prompt %}]b]ai\n<think>\n{% endif %}",
        ["]b]", "[e[", "<think>", "</think>"],
        "<think>",
        True,
        "none",
        "]b]ai\n<think>\n",
        "]b]ai\n<think>\n\n</think>\n\n",
        "\n</think>\n\nA[e[",
        "T\n</think>\n\nA[e[",
        "\n",
    ),
    "Nemotron-Nano-v2": Family(
        "{% set ns = namespace(off=false) %}{% for m in messages %}{% if '/no_think' in m.content %}"
        "{% set ns.off = true %}{% endif %}{% endfor %}{% for m in messages %}<S11>{{ m.role }}\n"
        "{{ m.content.replace('/no_think', '') }}\n{% if m.role == 'assistant' %}<S12>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<S11>assistant\n"
        "{% if ns.off %}<think></think>{% else %}<think>\n{% endif %}{% endif %}",
        ["<S11>", "<S12>", "<think>", "</think>"],
        "<think>",
        True,
        "/no_think in the system message",
        "<S11>assistant\n<think>\n",
        "<S11>assistant\n<think></think>",
        "</think>A\n<S12>",
        "T\n</think>\n\nA\n<S12>",
        "</think>",
    ),
    "SmolLM3": Family(
        "<|im_start|>system\n{{ '/no_think' if enable_thinking is defined and not enable_thinking else '/think' }}"
        "<|im_end|>\n"
        + TURNS
        + "{{ m.content }}"
        + END
        + THINK_OFF
        + "{{ '<think>\n\n</think>\n' }}{% endif %}{% endif %}",
        CHATML,
        "<think>",
        False,
        "enable_thinking=False",
        "assistant\n",
        "assistant\n<think>\n\n</think>\n",
        "<think>\n\n</think>\nA<|im_end|>",
        "<think>\nT\n</think>\nA<|im_end|>",
        "\n\n",
    ),
    "EXAONE-Deep": Family(
        "{% for m in messages %}[|{{ m.role }}|]{{ m.content.split('</thought>')[-1] }}[|endofturn|]\n{% endfor %}"
        "{% if add_generation_prompt %}[|assistant|]<thought>\n{% endif %}",
        ["[|user|]", "[|assistant|]", "[|endofturn|]", "<thought>", "</thought>"],
        "<thought>",
        True,
        "none",
        "[|assistant|]<thought>\n",
        "[|assistant|]<thought>\n\n</thought>\n\n",
        "\n</thought>\n\nA[|endofturn|]",
        "T\n</thought>\n\nA[|endofturn|]",
        "\n",
    ),
    "Phi-4-reasoning": Family(
        "<|im_start|>system<|im_sep|>Structure it as <think> {thoughts} </think> {solution}.<|im_end|>"
        "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}",
        [*CHATML, "<|im_sep|>"],
        "<think>",
        False,
        "none",
        "assistant<|im_sep|>",
        "assistant<|im_sep|><think>\n\n</think>\n\n",
        "<think>\n\n</think>\n\nA<|im_end|>",
        "<think>\nT\n</think>\n\nA<|im_end|>",
        "\n\n",
    ),
    "Granite-3.3": Family(
        ASKS + "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}",
        ["<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"],
        "<think>",
        False,
        "thinking=False",
        "assistant<|end_of_role|>",
        "assistant<|end_of_role|>",
        "<think>\n\n</think>\n\nA<|end_of_text|>",
        "<think>\nT\n</think>\n\nA<|end_of_text|>",
        "\n\n",
    ),
    "Ministral-3-Reasoning, Magistral": Family(
        "{{ bos_token }}[SYS]Think first: [THINK]thoughts[/THINK]answer.[/SYS]{% for m in messages %}"
        "{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% elif m.content is string %}{{ m.content + eos_token }}"
        "{% else %}{% for b in m.content %}{% if b.type == 'text' %}{{ b.text }}{% else %}"
        "[THINK]{{ b.thinking }}[/THINK]"
        "{% endif %}{% endfor %}{{ eos_token }}{% endif %}{% endfor %}",
        ["[SYS]", "[/SYS]", "[INST]", "[/INST]", "[THINK]", "[/THINK]"],
        "[THINK]",
        False,
        "none",
        "[/INST]",
        "[/INST][THINK][/THINK]",
        "[THINK][/THINK]A</s>",
        "[THINK]T[/THINK]A</s>",
        "[/THINK]",
    ),
    "Seed-OSS": Family(
        "{% for m in messages %}<seed:bos>{{ m.role }}\n{% if m.reasoning_content %}"
        "<seed:think>{{ m.reasoning_content }}</seed:think>\n{% endif %}{{ m.content }}<seed:eos>{% endfor %}"
        "{% if add_generation_prompt %}<seed:bos>assistant\n{% if thinking_budget == 0 %}"
        "<seed:think>No budget.</seed:think>{% endif %}{% endif %}",
        ["<seed:bos>", "<seed:eos>", "<seed:think>", "</seed:think>"],
        "<seed:think>",
        False,
        "none",
        "<seed:bos>assistant\n",
        "<seed:bos>assistant\n<seed:think></seed:think>\n",
        "<seed:think></seed:think>\nA<seed:eos>",
        "<seed:think>T</seed:think>\nA<seed:eos>",
        "</seed:think>",
    ),
    "Hunyuan-3, a tag of its own": Family(
        TURNS
        + "{{ m.content }}"
        + END
        + "<think:own>{% if reasoning_effort == 'none' %}</think:own>{% endif %}{% endif %}",
        [*CHATML[:2], "<think:own>", "</think:own>"],
        "<think:own>",
        True,
        "reasoning_effort=none",
        "assistant\n<think:own>",
        "assistant\n<think:own></think:own>",
        "</think:own>A<|im_end|>",
        "T</think:own>A<|im_end|>",
        "</think:own>",
    ),
    "Laguna, roles in brackets": Family(
        "{% for m in messages %}<{{ m.role }}>\n{% if m.role == 'assistant' %}{% if m.reasoning_content %}<think>\n"
        "{{ m.reasoning_content }}\n{% endif %}</think>\n{% endif %}{{ m.content }}\n</{{ m.role }}>\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>\n" + THINK_OFF + "</think>{% else %}<think>{% endif %}{% endif %}",
        ["<user>", "</user>", "<assistant>", "</assistant>", "<think>", "</think>"],
        "<think>",
        True,
        "enable_thinking=False",
        "<assistant>\n<think>",
        "<assistant>\n</think>",
        "</think>\nA\n</assistant>",
        "\nT\n</think>\nA\n</assistant>",
        "</think>",
    ),
    "a bare tag behind which the model writes the line break": Family(
        TURNS + "{{ m.content }}" + END + "<think>{% endif %}",
        CHATML,
        "<think>",
        True,
        "none",
        "assistant\n<think>",
        "assistant\n<think>\n</think>\n\n",
        "\n</think>\n\nA<|im_end|>",
        "\nT\n</think>\n\nA<|im_end|>",
        "</think>",
    ),
}

PLAIN = "{% if add_generation_prompt %}"
NO_FORMAT = {
    "Llama-3": "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
    "{% endfor %}" + PLAIN + "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    "Phi-3.5, Zephyr, GLM-4": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    + PLAIN
    + "<|assistant|>\n{% endif %}",
    "Qwen3-Instruct-2507": TURNS + "{{ m.content }}" + END + "{% endif %}",
    "roles in brackets that are closed": "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "</{{ m.role }}>{% endfor %}" + PLAIN + "<bot>{% endif %}",
    "a verdict before the thought (KAT-V1)": TURNS + SPLIT + "{{ c }}" + END + "<judge>\n{% endif %}",
    "an unknown tag that nothing proves": TURNS + "{{ m.content }}" + END + "<musing>\n{% endif %}",
    "a switch of another kind": "{% if enable_thinking %}Deliberate.{% endif %}"
    + TURNS
    + "{{ m.content }}"
    + END
    + "{% endif %}",
    "answers in a block of their own (Command-A)": "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' %}"
    "<|START_TEXT|>{% endif %}{{ m.content }}<|END|>{% endfor %}" + PLAIN + "<|assistant|><|START_THINKING|>"
    "{% if reasoning_effort == 'none' %}<|END_THINKING|>{% endif %}{% endif %}",
}
"""Templates that show no think format."""

CHANNELS = {
    "gpt-oss": "{% for m in messages %}<|start|>{{ m.role }}<|channel|>final<|message|>{{ m.content }}<|end|>"
    "{% endfor %}" + PLAIN + "<|start|>assistant{% endif %}",
    "Gemma 4": "{% for m in messages %}<|turn>{{ m.role }}\n{{ m.content }}<turn|>{% endfor %}"
    + PLAIN
    + "<|turn>model\n<|channel>thought\n<channel|>{% endif %}",
}
RAISING = {
    "thinking cannot be turned off": THINK_OFF + "{{ raise_exception('thinking cannot be turned off') }}{% endif %}",
    "No filter named 'missing'": "{{ messages | missing }}",
    "unexpected": "{% for m in messages %}{{ m.content }",
    "not iterable": "{% for tool in tools %}{{ tool }}{% endfor %}",
    "undefined": "{{ functions() }}",
}
"""Beginnings of templates that raise, by a word of what they tell."""
