"""Texts on which two tokenizers are compared, and a corpus of our own to train small vocabularies on."""

import ast
import inspect
import json.decoder
import random
import textwrap
import unicodedata

TEXTS = [
    "",
    " ",
    "   leading and trailing   ",
    "The quick brown fox jumps over the lazy dog's back, didn't it? WE'LL see; I'M sure THEY'VE gone.",
    "camelCaseWords HTTPServer XMLHttpRequest snake_case_name SCREAMING_CASE iPhone15Pro",
    "人工智能正在改变世界。Kimi是一个大语言模型,支持128K上下文!",
    "中文English混排mixed文字text，漢字かな交じり文。",
    "日本語のテキスト：カタカナ、ひらがな、漢字、々〇。ﾊﾝｶｸ",
    "안녕하세요 세계! 한국어 문장입니다.",
    "مرحبا بالعالم، كيف حالك؟ ١٢٣٤٥",
    "नमस्ते दुनिया, यह हिन्दी है। क्षत्रिय १२३",
    "สวัสดีชาวโลก นี่คือภาษาไทย ๑๒๓",
    "Γειά σου Κόσμε! Привет, мир! Ёлка и Щука. שלום עולם",
    "Việt Nam Tiếng Việt naïve café Ǆ ǅ ǆ Straße ŉ ſ 'ſ 'S 'LL don’t",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪🏳️‍🌈 🦉🦉 ❤️ 1️⃣",
    "0 12 123 1234 12345678901234567890 3.14159 1,000,000 ½ Ⅷ ² ①",
    "tabs\tand\t\tmore \r\n windows\r\nlines\n\n\nblank    \n   \n end  \u00a0\u3000\u2028x",
    "def f(x):\n    if x == 0:\n        return {'a': [1, 2]}  # comment\n\treturn f(x-1) ** 2 != ~x\n",
    '<div class="a">&amp;</div> SELECT * FROM t WHERE a<>b; int main(){return 0;} // ok',
    "https://example.org/path?q=1&r=%20#frag user@example.org C:\\dir\\file.txt $x += @y;",
    "<|im_end|>[BOS]<|im_user|>user<|im_middle|>hi<|tool_call_begin|> <s></s><unk> <0x0A> [INST]",
    "a\u0301e\u0302\u0323 \u200d\u200b\ufeff\u00ad control\x00\x07\x1b \U0002ebf0\U00031350 \U0010fffd \ue000",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + "ab" * 40 + " " * 70 + "=" * 33 + "\n" * 9 + "哈" * 30,
    "▁already ▁▁ marked▁",
]


def random_texts(count: int, seed: int) -> list[str]:
    """Strings of 1 to 40 characters from every script, and from runs of one script, blanks and words."""
    rng = random.Random(seed)
    ranges = [(0x20, 0x7F), (0x61, 0x7B), (0x41, 0x5B), (0x20, 0x21), (9, 14), (0x30, 0x3A), (0xA0, 0x250)]
    ranges += [(0x300, 0x370), (0x370, 0x530), (0x5D0, 0x700), (0x900, 0x980), (0xE00, 0xE5C), (0x1100, 0x1200)]
    ranges += [(0x2000, 0x2070), (0x2460, 0x2500), (0x2E80, 0x3100), (0x4E00, 0x9FA6), (0xAC00, 0xD7A4)]
    ranges += [(0xFB00, 0xFB07), (0xFF00, 0xFFF0), (0x1F300, 0x1F700), (0x20000, 0x32000), (1, 0xD800)]
    ranges += [(0xE000, 0x110000)]
    words = " ".join(TEXTS).split(" ")
    texts = []
    for _ in range(count):
        pieces = []
        for _ in range(rng.randint(1, 8)):
            if rng.random() < 0.3:
                pieces.append(rng.choice(words))
            low, high = rng.choice(ranges)
            pieces.append("".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 5))))
        texts.append("".join(pieces)[:40])
    return texts


def corpus() -> list[str]:
    """Lines to train on: the texts, sources of the standard library, and every script's letters in seeded order."""
    rng = random.Random(0)
    sources = "".join(inspect.getsource(module) for module in (ast, inspect, json.decoder, random, textwrap))
    letters = [chr(code) for code in range(0xA0, 0x1_0000) if unicodedata.category(chr(code)) in ("Lo", "Ll", "Lm")]
    scripts = ["".join(rng.choice(letters[start : start + 40]) for _ in range(60)) for start in range(0, 6000, 40)]
    return [*(TEXTS * 4), *scripts, *sources.splitlines(keepends=True)]
