"""Chat templates of every kind, and conversations for them."""

from typing import Any

from gptlab.prompts.protocol import Message

MARKED = """\
{{ bos_token }}{% for message in messages %}
<|start|>{{ message['role'] }}
{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}</s>{% endgeneration %}
{% else %}{{ message['content'] }}</s>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|start|>assistant
{% endif %}
"""
# It strips words, begins each turn, and puts the system message into the first question.
MERGED = """\
{%- if messages[0]['role'] == 'system' -%}
{%- set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set system = '' -%}{%- set turns = messages -%}{%- endif -%}
{%- for message in turns -%}
{%- if message['role'] == 'user' -%}
{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'].strip() + ' [/INST]' }}
{%- else -%}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{%- endif -%}
{%- endfor -%}
"""
# Earlier answers lose their reasoning, and the last has an empty one if it has none.
FORGETFUL = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{%- set words = message['content'].split('</think>')[-1].lstrip('\\n') -%}
{%- set reason = '' -%}
{%- if '</think>' in message['content'] -%}
{%- set reason = message['content'].split('</think>')[0].split('<think>')[-1].strip('\\n') -%}
{%- endif -%}
{{- '<|start|>assistant\\n' -}}
{%- if loop.last -%}{{- '<think>\\n' + reason + '\\n</think>\\n\\n' -}}{%- endif -%}{{- words + '</s>\\n' -}}
{%- else -%}{{- '<|start|>' + message['role'] + '\\n' + message['content'] + '</s>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant\\n' -}}{%- endif -%}
"""
# It asks for reasoning, and leaves it out of every answer.
THINKING = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- 'Assistant:' + message['content'].split('</think>')[-1].strip() + eos_token -}}
{%- else -%}{{- message['role'] + ':' + message['content'] -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:<think>\\n' -}}{%- endif -%}
"""
TOOLS = """\
{%- if tools is not none -%}{{- '<|start|>tools\\n' + (tools | tojson(indent=2)) + '</s>\\n' -}}{%- endif -%}
{%- if documents -%}{{- raise_exception('no documents, please') -}}{%- endif -%}
{%- for message in messages -%}
{{- '<|start|>' + message.role + '\\n' -}}
{%- if message.content is defined -%}{{- message.content -}}{%- endif -%}
{%- if message.reasoning_content -%}{{- '(' + message.reasoning_content + ')' -}}{%- endif -%}
{%- for call in message.tool_calls or [] -%}
{{- call.function.name + (call.function.arguments | tojson) -}}
{%- endfor -%}
{{- '</s>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant\\n' -}}{%- endif -%}
"""
# The same with names of special tokens in place of <think>.
FORGETFUL_OF_TOKENS = FORGETFUL.replace("</think>", "<|both|>").replace("<think>", "<|left|>")
DATED = "{{ strftime_now('%Y-%m-%d') }} {% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
BARE = "{% for m in messages %}{{ m['content'] + ('\\n' if m['role'] == 'user' else '') }}{% endfor %}"
# It has no place for a system message, and names tokens of this model alone.
STRICT = """\
{%- if messages[0].role == 'system' -%}{{- raise_exception('no system message, please') -}}{%- endif -%}
{{- image_token + unk_token -}}
{%- if cls_token is defined -%}{{- raise_exception('there is no cls_token') -}}{%- endif -%}
{%- for m in messages -%}{{- ' <|right|> ' + m.role + ' <|start|>' + m.content + '</s>' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- ' <|right|> assistant <|start|>' -}}{%- endif -%}
"""
# Models that see pictures have such ones.
IN_PARTS = """\
{% for message in messages %}<|start|>{{ message.role }}:
{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}</s>
{% endfor %}
{% if add_generation_prompt %}<|start|>assistant:
{% endif %}
"""

TEMPLATES = {
    "marked": MARKED,
    "merged": MERGED,
    "forgetful": FORGETFUL,
    "forgetful of tokens": FORGETFUL_OF_TOKENS,
    "thinking": THINKING,
    "tools": TOOLS,
    "dated": DATED,
    "bare": BARE,
    "strict": STRICT,
}

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add <two> numbers, 'a' & b.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}


def talk(n_turns: int, *, system: bool, reasons: bool = False) -> list[Message]:
    """Return a conversation of whole turns."""
    messages = [Message("system", "Be brief.")] if system else []
    for i in range(n_turns):
        reason = f"<think>\nHm, {i}.\n</think>\n\n" if reasons else ""
        messages += [
            Message("user", f"What's the sum of {i} and 2?"),
            Message("assistant", f"{reason}They'd be {i + 2}."),
        ]
    return messages


def as_dicts(messages: list[Message]) -> list[dict[str, Any]]:
    """Return messages as the transformers library takes them."""
    return [{"role": message.role, "content": message.content} for message in messages]
