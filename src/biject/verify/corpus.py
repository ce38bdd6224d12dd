"""The fixed texts on which tokenizers are compared: every script and every odd character that broke one.

Invisible and right-to-left characters are written as escapes, so that an editor cannot reorder them.
"""

from __future__ import annotations

_LONG = (
    "Nobody expects the tokenizer to be wrong; that is why it is compared, word for word and id for id, "
    "with 1,234.5 numbers, e-mails like a.b@example.org, unaffable and antidisestablishmentarian words. "
)

TEXTS: tuple[str, ...] = (
    # plain, long, empty
    "The quick brown fox jumps over the lazy dog.",
    _LONG * 40,
    "",
    " ",
    "a",
    "x" * 300,
    # spaces, newlines, tabs
    "  leading and trailing  ",
    "two  spaces   three",
    "line one\nline two\r\nline three\n\n",
    "tab\tseparated\tvalues\v\f",
    "no\u00a0break\u2003em\u3000ideographic\u200bzero\u2028line\u2029paragraph\u0085next",
    # cases, accents, combining marks, compatibility characters
    "ALL CAPS, Title Case, camelCase, SNAKE_CASE, İstanbul, straße, ΣΊΣΥΦΟΣ, Ǆ",
    "café, cafe\u0301, naïve, Ångström, A\u030angstro\u0308m, Việt Nam, s\u0323\u0307, q\u0307\u0323",
    "Z\u0351\u036b\u0343a\u0328\u0317l\u033b\u0353g\u031f\u0332o\u0347",
    "ﬁ ﬂ ① Ⅷ ½ ²³ ™ ℃ ㎏ ｆｕｌｌ ｗｉｄｔｈ ﾊﾝｶｸ",
    # scripts
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "日本語のテキストと漢字、カタカナ、ひらがな。",
    "我能吞下玻璃而不伤身体。𠀀𠮷 龘",
    "한국어 텍스트 그리고 조합형 \u1112\u1161\u11ab\u1100\u1173\u11af",
    "नमस्ते दुनिया क्षत्रिय, বাংলা, தமிழ், ภาษาไทยไม่มีช่องว่าง",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c \u0663\u0664",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd",
    "mixed \u202bright to left\u202c and \u2066isolated\u2069 \u061c\u200e\u200f marks",
    "አማርኛ ქართული հայերեն ᏣᎳᎩ ᚠᚢᚦ 𐍈 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𓀀",
    # emoji, with joiners, modifiers, flags, keycaps, tags
    "😀 👍🏽 👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 🇫🇷🇩🇪 1\ufe0f\u20e3 ❤\ufe0f ☺",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f flag of Scotland",
    # control characters and what is no character at all
    "null\x00bell\x07escape\x1b[0mdelete\x7f",
    "\ufeffbyte order mark, soft\u00adhyphen, \ufffd replacement \ufffe\uffff",
    "private \ue000 use \U0010fffd, unassigned \u0378",
    # punctuation, numbers, code
    "don't can't I'm we've they'll he'd 's 'S ''quoted`` \"quotes\" «guillemets» „German“ ‘single’",
    "…—–-‐‑ !?¡¿ #@$%^&*()[]{}<>/\\|~+=_ ,;:.",
    "3.14159 1,000,000 0x1F 1e-10 2024-02-29T23:59:59Z €5 £6 ¥7 ₿8",
    "def f(x):\n    return {'a': [1, 2], \"b\": x**2}  # comment\n",
    "https://example.org/a/b?c=d&e=f#g user@host.example C:\\Temp\\x",
    # special tokens and what looks like them
    "the [MASK] of [CLS] and [SEP] with [PAD] or [UNK]",
    "<s> text </s> <pad> <mask> <unk> <|endoftext|> <<s>>",
    "word[MASK]word <mask>word word<mask> [mask] [ MASK ] ## ##ing ▁under ▁",
    "<0x41><0x0A> \u0120G \u010a",
)
"""Single texts."""

PAIRS: tuple[tuple[str, str], ...] = (
    ("What is compared?", "Every id, every mask, every offset."),
    ("", "an empty first text"),
    ("an empty second text", ""),
    ("", ""),
    (_LONG, "short"),
    ("short", _LONG * 3),
    ("日本語", "\u05e9\u05dc\u05d5\u05dd"),
    ("a [SEP] b", "c </s> d"),
    ("👩\u200d👩\u200d👧", "  spaces  "),
)
"""Pairs of texts."""

WORDS: tuple[tuple[str, ...], ...] = (
    ("The", "quick", "unaffable", "fox", "."),
    ("Zoë's", "日本語", "", "two words", "  ", "[MASK]"),
    ("🏳\ufe0f\u200d🌈", "don't"),
)
"""Texts that are already cut into words."""

CHAT: tuple[dict[str, str], ...] = (
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "  What is a token?\n"},
    {"role": "assistant", "content": "A piece of text 🙂."},
    {"role": "user", "content": "日本語?"},
)
"""A conversation, for chat templates."""
