"""Texts that tokenizers must agree on: many scripts, code, emoji, blanks, and random strings."""

import random

MIXED = (
    "Hello, world! It's the year 2025; we'll see, DON'T we?",
    "机器学习模型在小设备上运行，速度很快。2025年，北京",
    "深度学习DeepSeek和Kimi混合text与中文123测试",
    "これは日本語の文章です。カタカナとひらがな、漢字。",
    "한국어 문장도 있습니다. 전문가 혼합 모델",
    "مرحبا بالعالم، هذا نص عربي ١٢٣",
    "नमस्ते दुनिया, यह हिन्दी पाठ है १२३",
    "สวัสดีชาวโลก นี่คือข้อความภาษาไทย",
    "Καλημέρα κόσμε, αυτό είναι ελληνικό κείμενο",
    "Привет, мир! Это русский текст, ёлка.",
    "Ünïcödé ñandú œuvre straße ĲSSELMEER ǅ ﬁ",
    "def f(x: int) -> str:\n    return f\"{x!r:>10}\"  # comment\n\n\n\tif x == 0x1F and y != 3.14e-10:\n",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }\r\n\r\n// end\r\n",
    "SELECT * FROM t WHERE a>=10 AND b<>'x''y';",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🤖 👍🏽 ❤️ 🇫🇷 emoji",
    "   leading and trailing   ",
    "a  b   c    d\t\te\n\nf\n \n \n g",
    "\n", " ", "  ", "\t", "", "\r\n \r\n", "a\u00a0b\u2003c\u3000d",
    "1234567890 12 123 1234 ½ ² Ⅷ 九",
    "https://example.org/a/b?c=d&e=f#g user@host.net C:\\dir\\file.txt",
    "ababababab aaaaaaa aaabaaabaaab abaaba xyzxyzyx",
    "x" * 300, "ab" * 100, "的" * 50, "'S 'LL 'ſ I'ſ can'T",
    "e\u0301 a\u0308 \u0301 combining", "\u200b zero \u200d width \ufeff bom", "\x00\x01\x7f control",
)  # fmt: skip
_RANGES = (
    (0x20, 0x7F), (0xA0, 0x250), (0x370, 0x400), (0x400, 0x500), (0x590, 0x700), (0x900, 0x980), (0xE00, 0xE80),
    (0x1100, 0x1200), (0x2000, 0x2070), (0x20A0, 0x2150), (0x2190, 0x2400), (0x3000, 0x3100), (0x4E00, 0x9FA6),
    (0xAC00, 0xD7A4), (0x1F300, 0x1F650),
)  # fmt: skip


def random_strings(count: int, seed: int = 0) -> list[str]:
    """Strings of up to 40 characters: of few letters that repeat, of one script, of all of them mixed, with blanks."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        length = rng.randrange(40)
        kind = rng.randrange(4)
        if kind == 0:
            letters = rng.choices("abcABC 的是1.'\n", k=3)
            made.append("".join(rng.choices(letters, k=length)))
        elif kind == 1:
            low, high = rng.choice(_RANGES)
            made.append("".join(chr(rng.randrange(low, high)) for _ in range(length)))
        elif kind == 2:
            made.append("".join(chr(rng.randrange(*rng.choice(_RANGES))) for _ in range(length)))
        else:
            parts = rng.choices([*MIXED, " ", "  ", "\n", "\t", "I'm", "2024"], k=4)
            made.append("".join(part[rng.randrange(8) :][: rng.randrange(12)] for part in parts))
    return made
