"""The table of faults in people's data, and what is said about each.

`test_data_faults.py` prepares the data of each row. To hold a new fault, add a row to the list of its kind of data.
"""

import json
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """Files with a fault, and what preparing them says."""

    name: str  # of the test
    files: dict[str, bytes]  # path in the folder -> content
    overrides: tuple[str, ...]  # of `train`, beginning with data=; {folder} is the files' folder
    says: str | None = None  # pattern of the error's one sentence; None: the data are prepared
    logs: str | None = None  # pattern of one line of the log; None: any


def lines(*texts: str) -> bytes:
    """Return texts as lines of UTF-8."""
    return "".join(f"{text}\n" for text in texts).encode()


WORDS = lines(*["And the king went to the river."] * 20)  # a text without a fault
ONE_TEXT = ("data=text", "data.path={folder}/a.txt")
ONE_JSONL = ("data=text", "data.path={folder}/a.jsonl")
ONE_TABLE = ("data=csv", "data.path={folder}/a.csv")
LABELS = [f"t {i},{'ab'[i % 2]}" for i in range(40)]  # rows of a table without a fault

ONE_CHAT = ("data=chat", "data.path={folder}/a.jsonl")

SENTENCES = [f"The river number {i} flows to the sea." for i in range(20)]
MARKED = lines(*SENTENCES) + b"<|endoftext|>" + lines(*SENTENCES[::-1])  # two documents
ENDS = r"<\|endoftext\|> 1 times as plain.*data\.reader\.separator='<\|endoftext\|>' splits there"
JSONL = lines(*(f'{{"text": "{sentence * 4}"}}' for sentence in SENTENCES))
SKIPPING = (*ONE_JSONL, "data.on_error=skip")


def encoded(encoding: str) -> dict[str, bytes]:
    """Return a file in another encoding."""
    return {"a.txt": ("The caf\u00e9 by the river.\n" * 20).encode(encoding)}


TEXT = [
    Fault("no fault", {"a.txt": WORDS}, ONE_TEXT),
    Fault("no such file", {}, ONE_TEXT, says=r"there is no .*a\.txt"),
    Fault("an empty file", {"a.txt": b""}, ONE_TEXT, says=r"a\.txt is empty"),
    Fault("an empty folder", {"b.pdf": b"%PDF"}, ("data=text", "data.path={folder}"), says="names no file that ends"),
    Fault("nothing but blanks", {"a.txt": b" \n\t\n" * 50}, ONE_TEXT, says=r"there is no text left in .*a\.txt"),
    Fault("a text of one line", {"a.txt": b"word " * 300_000}, ONE_TEXT),
    Fault("no spaces", {"a.txt": "\u5b57".encode() * 500_000}, ONE_TEXT),
    Fault(
        "too short to train on", {"a.txt": b"And the king."}, ONE_TEXT, says=r"train split has .* window of .*=64 needs"
    ),
    # the path
    Fault("an empty path", {}, ("data=text", "data.path=''"), says="data.path is '', wanted a path or a list of paths"),
    Fault("a number", {}, ("data=text", "data.path=2024"), says=r"data\.path is 2024.* a file or folder .* is \./2024"),
    Fault("no paths", {}, ("data=text", "data.path=[]"), says=r"data\.path is \[\], wanted"),
    Fault("null among paths", {}, ("data=text", "data.path=[null]"), says=r"data\.path is \[None\], wanted"),
    Fault("a long path", {}, ("data=text", "data.path=" + "/".join(["ab"] * 2000)), says="wanted names of at most 255"),
    Fault(
        "a long name", {}, ("data=text", "data.path='" + "\u00e9" * 200 + "'"), says="wanted names of at most 255 bytes"
    ),
    Fault("a long cache", {"a.txt": WORDS}, (*ONE_TEXT, "data.cache_dir=" + "ab/" * 2000), says="data.cache_dir is"),
    Fault(
        "a bucket", {}, ("data=text", "data.path=s3://a/b.txt"), says="s3:// is not read.*fetch the file another way"
    ),
    Fault("an archive", {"a.zip": b""}, ("data=text", "data.path={folder}/a.zip"), says=r"name a file in it after a #"),
    Fault("a tar file", {"a.tgz": b""}, ("data=text", "data.path={folder}/a.tgz"), says="unpack it and give the"),
    Fault("a host that is none", {}, ("data=text", "data.path=http://a..b/c.txt"), says="is not an address"),
    Fault("a long host", {}, ("data=text", f"data.path=http://{'a' * 64}.com/c.txt"), says="is not an address"),
    Fault(
        "a password",
        {},
        ("data=text", "data.path='https://me:secret@b.c/d.txt'"),
        says="^an address at b.c names a user",
    ),
    Fault(
        "no checksum", {"a.txt": WORDS}, (*ONE_TEXT, "data.sha256=zz"), says="data.sha256 is 'zz', wanted 64 hexadec"
    ),
    # the encoding
    Fault(
        "Latin-1",
        {"a.txt": WORDS + b"caf\xe9"},
        ONE_TEXT,
        says=r"a\.txt, line 21, byte 643: not UTF-8 \(0xe9, '\u00e9' in W",
    ),
    Fault("UTF-16", encoded("utf-16"), ONE_TEXT, says=r"a\.txt is UTF-16, wanted UTF-8: .*iconv -f UTF-16 -t UTF-8"),
    Fault("UTF-32", encoded("utf-32"), ONE_TEXT, says=r"a\.txt is UTF-32, wanted UTF-8"),
    Fault(
        "UTF-16 without a mark", encoded("utf-16-le"), ONE_TEXT, says=r"NUL characters, as UTF-16.*iconv -f UTF-16LE"
    ),
    Fault("UTF-16, big end first", encoded("utf-16-be"), ONE_TEXT, says="iconv -f UTF-16BE"),
    Fault("UTF-16 records", {"a.jsonl": JSONL.decode().encode("utf-16")}, SKIPPING, says=r"a\.jsonl is UTF-16, wanted"),
    Fault("a mark", {"a.txt": b"\xef\xbb\xbf" + WORDS}, ONE_TEXT),
    Fault("joined files", {"a.jsonl": (b"\xef\xbb\xbf" + JSONL) * 2}, ONE_JSONL),
    Fault(
        "gzip without its ending", {"a.txt": b"\x1f\x8b" + WORDS}, ONE_TEXT, says=r"is not text but a gzip file.* \.gz"
    ),
    Fault("a renamed .docx", {"a.txt": b"PK\3\4" + WORDS}, ONE_TEXT, says=r"is not text but a zip file, as \.docx"),
    Fault("a renamed .pdf", {"a.txt": b"%PDF-1.4\n" + WORDS}, ONE_TEXT, says="is not text but a PDF file"),
    # records
    Fault(
        "a line that is not JSON",
        {"a.jsonl": JSONL + b"{\n"},
        ONE_JSONL,
        says=r"a\.jsonl, line 21: not JSON.*on_error=skip",
    ),
    Fault(
        "such a line left out", {"a.jsonl": JSONL + b"{\n"}, SKIPPING, logs="left out 1 of 21 records.* line 21: not J"
    ),
    Fault(
        "another field", {"a.jsonl": lines('{"body": "a"}')}, ONE_JSONL, says=r"no field 'text'.*data\.reader\.field="
    ),
    Fault(
        "no text in a line",
        {"a.jsonl": JSONL + b'{"text": null}\n'},
        ONE_JSONL,
        says="line 21: field 'text' holds null",
    ),
    Fault("that line left out", {"a.jsonl": JSONL + b'{"text": null}\n'}, SKIPPING, logs="left out 1 of 21 records"),
    Fault(
        "a broken line left out",
        {"a.jsonl": JSONL + b'{"text": "\xff"}\n'},
        SKIPPING,
        logs="left out 1 of 21.*not UTF-8",
    ),
    Fault(
        "no usable line",
        {"a.jsonl": b"{\n" * 9},
        SKIPPING,
        says="none of 9 records can be used, first: .*line 1: not JSON",
    ),
    # the text
    Fault("an end in the text", {"a.txt": MARKED}, ONE_TEXT, logs=ENDS),
    Fault(
        "another's end in the text", {"a.txt": MARKED.replace(b"<|endoftext|>", b"</s>")}, ONE_TEXT, logs="</s> 1 times"
    ),
    Fault(
        "copies",
        {"a.txt": WORDS, "b.txt": WORDS, "c.txt": MARKED},
        ("data=text", "data.path={folder}"),
        logs="1 of 3 doc",
    ),
    Fault(
        "copies only",
        {"a.txt": WORDS, "b.txt": WORDS},
        ("data=text", "data.path={folder}"),
        says="all 2 documents are eq",
    ),
]

LABELLED = [
    Fault("a table without a fault", {"a.csv": lines("text,label", *["one,a", "two,b"] * 20)}, ONE_TABLE),
    Fault(
        "a row of three columns", {"a.csv": lines("text,label", "a,b,c")}, ONE_TABLE, says=r"a\.csv, line 2: 3 columns"
    ),
    Fault(
        "a text that begins with a quotation mark",
        {"a.csv": lines("text,label", *LABELS, '"two,b', *LABELS, 'four",b')},
        ONE_TABLE,
        logs=r"a\.csv: quotation marks are read as part of the texts, which gives 82 rows",
    ),
    Fault(
        "a quotation mark that never closes",
        {"a.csv": lines("text,label", *['"one, two",a', "two,b"] * 20, '"three, four,b')},
        ONE_TABLE,
        says=r"a\.csv, line 42: a quotation mark is never closed.*data\.reader\.quoting=false",
    ),
    Fault(
        "a table with semicolons, as European spreadsheets write it",
        {"a.csv": "\ufefftext;label\r\n".encode() + b'"one; two";a\r\ntwo, three;b\r\n' * 20},
        ONE_TABLE,
        logs=r"a\.csv: columns are separated by semicolon; see data\.reader\.delimiter",
    ),
    Fault(
        "two columns of one name",
        {"a.csv": lines("text,label,text", "a,b,c")},
        ONE_TABLE,
        says=r"a\.csv has two columns of the name text: rename one",
    ),
    Fault(
        "UTF-16 without a mark",
        {"a.csv": "text,label\none,a\n".encode("utf-16-le")},
        ONE_TABLE,
        says=r"a\.csv holds NUL characters, as UTF-16",
    ),
    Fault(
        "rows that end in a delimiter",
        {"a.csv": lines(" text , label ,", *["one,a,", "two,b,"] * 20, "", ",,")},
        ONE_TABLE,
        logs=r"left out 1 of 41 rows .*: no text in them",
    ),
    Fault(
        "a row without a label",
        {"a.csv": lines("text,label", *LABELS, "x,")},
        ONE_TABLE,
        says=r"a\.csv, line 42: 'label' is empty.*data\.on_error=skip",
    ),
    Fault(
        "malformed rows, left out",
        {"a.csv": lines("text,label", *LABELS, "x,", "x", "x,y,z", "x\0,a")},
        (*ONE_TABLE, "data.on_error=skip"),
        logs=r"left out 4 of 44 records that are malformed: .*line 42: .*line 43: 1 columns.*line 44: 3 columns",
    ),
    Fault(
        "malformed rows only, left out",
        {"a.csv": lines("text,label", "x,")},
        (*ONE_TABLE, "data.on_error=skip"),
        says="none of 1 records can be used, first: .*'label' is empty",
    ),
    Fault(
        "a label of null",
        {"a.jsonl": lines('{"text": "a", "label": null}')},
        ("data=jsonl", "data.path={folder}/a.jsonl"),
        says=r"a\.jsonl, line 1: 'label' is null, wanted a text, a whole number, true or false",
    ),
    Fault(
        "a label that is a fraction",
        {"a.jsonl": lines('{"text": "a", "label": 1.5}')},
        ("data=jsonl", "data.path={folder}/a.jsonl"),
        says="'label' is 1.5, wanted",
    ),
    Fault(
        "a label that is not a number",
        {"a.jsonl": lines('{"text": "a", "label": NaN}')},
        ("data=jsonl", "data.path={folder}/a.jsonl"),
        says="'label' is nan, wanted",
    ),
    Fault(
        "a column of numbers as labels",
        {"a.csv": lines("text,label", *(f"t {i},{i / 7:.4f}" for i in range(40)))},
        ONE_TABLE,
        says=r"with 40 classes in 40 rows, does data\.reader\.label_field name the right column",
    ),
    Fault(
        "a class that does not occur",
        {"a.csv": lines("text,label", *LABELS)},
        (*ONE_TABLE, "data.classes=[a,b,c]"),
        says=r"data\.classes names c, which no row .*; those that occur are a, b:",
    ),
    Fault(
        "a text with two labels",
        {"a.csv": lines("text,label", *LABELS, "t 0,b")},
        ONE_TABLE,
        logs="1 of 40 different texts have more than one label, such as 't 0': a, b",
    ),
    Fault(
        "labels in two cases",
        {"a.csv": lines("text,label", *LABELS, *["x,A", "y, a "] * 9)},
        ONE_TABLE,
        logs="the classes A, a differ in case or blanks only",
    ),
    Fault(
        "fewer groups than splits",
        {"a.csv": lines("text,label,by", *(f"{row},{'xy'[i // 20]}" for i, row in enumerate(LABELS)))},
        (*ONE_TABLE, "data.reader.group_field=by"),
        says=r"2 groups are too few: none is left for val; give more groups, .* data\.test_fraction=0",
    ),
    Fault(
        "a delimiter that is none",
        {"a.csv": lines("text,label", *LABELS)},
        (*ONE_TABLE, "data.reader.delimiter=ab"),
        says=r"data\.reader\.delimiter is 'ab', wanted comma, semicolon, tab, pipe or one character",
    ),
]

GREETING = '{"messages": [{"role": "user", "content": "Hi %d"}, {"role": "assistant", "content": "Hello"}]}'
GREETINGS = [GREETING % i for i in range(20)]
PAIR = '{"prompt": "Hi %d", "chosen": "Hello", "rejected": "%s"}'
ONE_PAIRS = ("data=preferences", "data.path={folder}/a.jsonl")
ROLES = {"u": "user", "a": "assistant", "s": "system"}


def talk(*turns: Any, **more: Any) -> str:
    """Return a record of turns: u is a user's, a an assistant's, s a system message, others are as they are."""
    told = [{"role": ROLES[turn], "content": "Hi"} if isinstance(turn, str) else turn for turn in turns]
    return json.dumps({"messages": told, **more})


def chat(name: str, record: str, *words: str, says: str | None = None, logs: str | None = None) -> Fault:
    """Return a fault in line 21, after 20 greetings."""
    return Fault(name, {"a.jsonl": lines(*GREETINGS, record)}, (*ONE_CHAT, *words), says, logs)


TOOL = {"role": "tool", "content": "1"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
PICTURE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}
HALF, NONE = ({"role": "assistant", "content": "a", "weight": weight} for weight in (0.5, 0))

QUESTIONS = [f"q {i}\ta {i}" for i in range(20)]  # rows of a table without a fault
CHAT = [
    Fault(
        "a question in a table that begins with a quotation mark",
        {"a.tsv": lines("prompt\tresponse", *QUESTIONS, '"Where\tthere', *QUESTIONS, 'Who"\tme')},
        ("data=chat", "data.path={folder}/a.tsv", "data.reader.format=columns"),
        logs=r"a\.tsv: quotation marks are read as part of the texts, which gives 42 rows",
    ),
    Fault(
        "pairs in a table that lack a column",
        {"a.csv": lines("prompt~chosen~rejected", '"one~two~three', "four~five")},
        ("data=preferences", "data.path={folder}/a.csv", "data.reader.delimiter='~'", "data.reader.quoting=false"),
        says=r"a\.csv, line 3: 2 columns, wanted 3 \(prompt, chosen, rejected\): quote texts that hold '~'",
    ),
    Fault("conversations without a fault", {"a.jsonl": lines(*GREETINGS)}, ONE_CHAT),
    Fault("no messages", {"a.jsonl": lines('{"text": "a"}')}, ONE_CHAT, says=r"a\.jsonl, line 1"),
    Fault("no conversation at all", {"a.jsonl": b"\n"}, ONE_CHAT, says=r"a\.jsonl holds no conversation"),
    chat("a number of messages", '{"messages": 3}', says=r"line 21: 'messages' is 3, wanted a list"),
    chat("messages 10,000 deep", '{"messages": ' + "[" * 10_000, says=r"line 21: not JSON \(nested too"),
    chat("a role that is a list", talk({"role": ["user"], "content": "a"}), says=r"line 21: message 1: the role is"),
    chat("a role of tools", talk("u", TOOL, "a"), says=r"message 2: the role is 'tool'.* no calls of functions"),
    chat("a call of a function", talk("u", CALL, TOOL, "a"), says=r"message 2: 'tool_calls' is"),
    chat("functions to call", talk("u", "a", tools=[{"a": 1}]), says=r"line 21: 'tools' is .*ignore=\[tools\]"),
    chat("functions ignored", talk("u", "a", tools=[1]), "data.reader.ignore=[tools]", logs=r"tools \(in 1 rec"),
    chat("a picture", talk(PICTURE, "a"), says=r"message 1, part 1 is .*text only"),
    chat("variables", talk("u", "a", chat_template_kwargs={"a": 1}), says=r"prompt\.variables"),
    chat("two system messages", talk("s", "u", "a", system="Bye"), says=r"two system messages, 'Bye' and 'Hi'"),
    chat("a system message in between", talk("u", "s", "a"), says=r"line 21: message 2 is the system's"),
    chat("half a weight", talk("u", HALF), says=r"message 2: 'weight' is 0.5, wanted 1 or 0"),
    chat("no weight", talk("u", NONE), logs=r"left out 1 of 21 conversations: none of their answers is learned"),
    chat("turns out of order", talk(*"auuau"), logs=r"repaired conversations: joined .* in 1 \(.* 21\), dropped"),
    chat("turns as they are", talk(*"uua"), "data.repair=false", says=r"line 21: message 2 .*data\.repair=true"),
    chat("no answer", talk("u"), says=r"line 21: the turns are user, wanted a question and its.*data\.on_error=skip"),
    chat("no answer, left out", talk("u"), "data.on_error=skip", logs=r"left out 1 of 21 records .*line 21"),
    chat("half a character", talk({"role": "user", "content": "\ud800"}, "a"), says="half a character"),
    chat("an unused key", talk("u", "a", source="web"), logs=r"keys that are not used: source \(in 1 records\)"),
    Fault("no good record", {"a.jsonl": lines("{", "3")}, (*ONE_CHAT, "data.on_error=skip"), says="none of 2 records"),
    Fault("one question", {"a.jsonl": lines(*[GREETING % 0] * 9)}, ONE_CHAT, says=r"all 9 conversations ask the same"),
    Fault("two questions", {"a.jsonl": lines(*GREETINGS[:2] * 9)}, ONE_CHAT, logs=r"there is no test set: .* ask 2"),
    Fault(
        "conversations that are all too long",
        {"a.jsonl": lines(*(GREETING.replace("Hello", "Hello" * 20) % i for i in range(20)))},
        (*ONE_CHAT, "data.overlong=drop"),
        says=r"16 of 16 rows are longer than model\.context_length=64: raise it, or set data\.overlong=cut",
    ),
    Fault(
        "pairs that differ beyond the context",
        {"a.jsonl": lines(*(PAIR.replace("Hello", "a" * 99) % (i, "a" * 98) for i in range(20)))},
        ONE_PAIRS,
        says="none of 16 train pairs can be learned, in 16 two answers are equal within",
    ),
    Fault("pairs of one question", {"a.jsonl": lines(*[PAIR % (0, "No")] * 9)}, ONE_PAIRS, says="all 9 pairs ask the"),
    Fault("pairs of one answer", {"a.jsonl": lines(PAIR % (0, "Hello"))}, ONE_PAIRS, says="no pair of two different"),
    Fault(
        "a pair without messages",
        {"a.jsonl": lines('{"chosen": [], "rejected": [{"role": "user", "content": "a"}]}')},
        (*ONE_PAIRS, "data.reader.format=messages"),
        says=r"line 1: chosen: there is no message",
    ),
]
