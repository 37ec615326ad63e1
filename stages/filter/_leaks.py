r"""Whether a rationale that was written with the gold answer at hand gives that away.

    16 - 7 = 9 are left, and 9 * 2 = 18.            kept: it comes to the answer by itself
    The answer is 18, because 16 - 7 = 9 …          refused: the answer stands before any step
    16 - 7 = 9. To reach the given answer, …        refused: it speaks of the hint

Rationalisation (Zelikman et al. 2022, STaR, arXiv 2203.14465, Sec. 3.2) teaches such texts as if the model had found them
without the hint, so a student would learn to lean on a hint that it will never see. The paper keeps every text whose answer
is right; to refuse those that show the hint is our choice, and so are the rules here (tests/stages/test_filter_leaks.py
measures them on texts of both kinds, and on real texts that were written without a hint).
"""

from __future__ import annotations

import re
from typing import Literal

from kpod.runner import Question
from kpod.stages._lm.answers import canonical, extract, matches
from kpod.stages._lm.numbers import find_numbers, written
from kpod.stages.filter._tail import without_answer

Leak = Literal["speaks of the hint", "answer before any step"]

_KNOWN = r"(?:given|provided|known|expected|stated|hinted|gold|reference|target|desired|supplied|intended|required)"
_RIGHT = rf"(?:{_KNOWN}|correct|right|final)"
_ANSWER = r"(?:answer|result|solution|value)"
# "Thus we know the answer" concludes; "we know the answer" does not.
_NOT_CONCLUDED = "".join(
    rf"(?<!{word}{comma} we )"
    for word in ("so", "thus", "hence", "now", "therefore")
    for comma in ("", ",")
)
# Names for the hint, wherever they stand.
_NAMED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bhint(?:s|ed)?\b",
        r"\b(?:answer|solution)\s+(?:key|sheet)\b",
        # "the given answer", "the known final answer", "the answer provided"; not "the given value of x"
        rf"\b{_KNOWN}\s+(?:(?:correct|right|final)\s+)?(?:answer|solution)\b",
        r"\b(?:answer|solution)\s+(?:that\s+)?(?:(?:is|was|has\s+been|we\s+(?:are|were|have\s+been)|you(?:'ve|\s+have)?)\s+)?"
        r"(?:already\s+)?(?:given|provided|known|stated|supplied|told|expected)\b",
    )
)
# What is done with it, anywhere but in the phrase that states the answer at the end.
_USED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # "which matches the correct answer", "to get to the right answer we must"
        r"\b(?:match(?:es|ing)?|agree(?:s|ing)?\s+with|consistent\s+with|in\s+line\s+with|confirm(?:s|ing)?|same\s+as)"
        rf"\s+(?:the|our|your|that|this)\s+{_RIGHT}\s+{_ANSWER}\b",
        r"\bto\s+(?:get|reach|obtain|match|arrive\s+at|end\s+up\s+with)(?:\s+to)?"
        rf"\s+(?:the|this|that|your)\s+{_RIGHT}\s+{_ANSWER}\b",
        # "we are told that the answer", "knowing that the answer is 18", "since the correct answer is 18"
        rf"\b(?:told|informed|{_NOT_CONCLUDED}know|knows|knew|knowing|given|assum(?:e|ing)|suppos(?:e|ing)|if|(?:says|states)\s+that)"
        rf"\s+(?:that\s+)?(?:the|our|your)\s+(?:{_RIGHT}\s+)?answer\b",
        rf"\b(?:since|because)\s+(?:we\s+know\s+)?(?:the|our|your)\s+(?:{_RIGHT}\s+)?answer\s+(?:is|was|must|should|has)\b",
        r"\b(?:according\s+to|work(?:ing)?\s+back(?:wards?)?\s+from|based\s+on)"
        rf"\s+(?:the|this|that|your)\s+(?:{_RIGHT}\s+)?answer\b",
        r"\bwhy\s+(?:(?:the|our)\s+)?(?:(?:correct|final|right)\s+)?answer\s+(?:is|must|should)\b",
    )
)

# What stands before any step stands at the beginning; the bounds keep the whole linear.
_OPENING_CHARS = 4_000
_SENTENCE_CHARS = 600
# A calculation: from here on the text has made a step.
_CALCULATION = re.compile(
    r"[=≈]|[$0-9][0-9.,]{0,20}\s{0,3}[-+*/×÷x]\s*[$0-9(]|\\(?:times|div|frac|cdot)"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'*)\]]*\s+|\n+")
# Sentences that say nothing of the question: greetings, headings, announcements.
_OPENING = re.compile(
    r"(?:(?:sure|okay|ok|certainly|of\s+course|alright|great|yes|no\s+problem)\b[^0-9]{0,40}"
    r"|(?:let's|let\s+us|let\s+me|i\s+will|i'll|we\s+will|we'll|here\s+is|here's|here\s+are|to\s+(?:solve|answer|find|explain))\b[^0-9=]*"
    r"|\W*(?:solution|explanation|reasoning|rationale|step\s+1|answer)\W*)",
    re.IGNORECASE,
)
# "Libraries lend books, so the answer is B": what stands before such a word is a reason.
_CONCLUDES = re.compile(
    r"\b(?:so|therefore|thus|hence|then|consequently|means?|making|which|gives?|leaves?|leaving)\b",
    re.IGNORECASE,
)
# "To get to 18, we", "We want to show that it is 18", "must come to 18": the aim is named before the way.
_AIM = re.compile(
    r"\b(?:to\s+(?:get|reach|obtain|arrive\s+at|end\s+up\s+with|come\s+to|show|prove|verify|confirm|check|justify|explain|see)"
    r"|(?:must|should|has\s+to|have\s+to|needs?\s+to)\s+(?:be|equal|total|come\s+to|add\s+up\s+to)|why)\b[^.\n]{0,60}$",
    re.IGNORECASE,
)
# Words that calculate or count: what stands beside them may have been worked out in the head.
_COUNTS = re.compile(
    r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty|hundred|dozen"
    r"|half|third|quarter|twice|double|triple|times|each|per|every|remain(?:s|ing|der)?|left|rest|other|total|sum|more|less"
    r"|fewer|after|both|all)\b",
    re.IGNORECASE,
)
# Reasons shorter than this many words are none: "And so the answer is 18."
_REASON_WORDS = 3
_ANSWER_WORDS = 3
_WORD = re.compile(r"[^\W_]+")
_LEAD_END = re.compile(
    r"[,;:](?=\s)|\s[-–—]\s|\b(?:is\s+(?:right|correct)|because|since)\b", re.IGNORECASE
)
_MARKUP = re.compile(r"^[\s*_#>$\\({\[\"']+|[\s*_#$\\)}\]\"'.,:;!]+$")


def leak(text: str, question: Question) -> Leak | None:
    """How a rationale shows that its writer knew the answer; None where it does not.

    Args:
        text: of the rationale, as it was written.
        question: that it answers; without a gold answer only the words of the text can give it away.
    """
    if _speaks_of_hint(text, question):
        return "speaks of the hint"
    if question.answer is not None and _answers_first(text, question):
        return "answer before any step"
    return None


def _speaks_of_hint(text: str, question: Question) -> bool:
    """Whether words of the text speak of an answer that was given; a question that has the words may be answered with them."""
    body = without_answer(text) or text  # "So we know the answer is 18." at the end is a conclusion
    return any(
        pattern.search(stretch) is not None and pattern.search(question.text) is None
        for stretch, patterns in ((text, _NAMED), (body, _USED))
        for pattern in patterns
    )


def _answers_first(text: str, question: Question) -> bool:
    """Whether the first sentence that says anything of the question states the gold answer, with no reason before it."""
    for whole in _SENTENCE_END.split(text.strip()[:_OPENING_CHARS]):
        sentence = whole[:_SENTENCE_CHARS]
        if not sentence or (_OPENING.fullmatch(sentence) and not _is_answer(sentence, question)):
            continue
        step = _CALCULATION.search(sentence)
        head = sentence if step is None else sentence[: step.start()]
        return (
            _is_answer(sentence, question)
            or _states(head, question)
            or _foretells(sentence, head, question)
        )
    return False


def _is_answer(sentence: str, question: Question) -> bool:
    """Whether a sentence is the gold answer and nothing else: "18", "$18 a day", "**(B) library.**", "Yes"."""
    bare = _MARKUP.sub("", sentence)
    if len(_WORD.findall(bare)) > _ANSWER_WORDS or _CALCULATION.search(bare):
        return False
    if question.kind != "numeric":
        found = extract(bare, question.kind, question.choices)
        return matches(found, question.answer or "", question.kind, question.choices)
    numbers = _placed_numbers(bare)
    return len(numbers) == 1 and numbers[0][1] == 0 and _is_gold(bare, question)


def _states(head: str, question: Question) -> bool:
    """Whether the beginning of a text says "the answer is <gold>" before it gives a reason."""
    found = extract(head, question.kind, question.choices)
    if found is None or found.rule not in {"hash", "boxed", "phrase"}:
        return _leads(head, question)
    if not matches(found, question.answer or "", question.kind, question.choices):
        return False
    return not _has_reason(head[: found.span[0]])


def _leads(head: str, question: Question) -> bool:
    """Whether the answer comes first and a reason after it: "Yes, because …", "B, since …", "18 is right, because …"."""
    first = _LEAD_END.split(head, maxsplit=1)[0]
    return first != head and _is_answer(first, question)


def _foretells(sentence: str, head: str, question: Question) -> bool:
    """Whether the gold number, which the question does not hold, is named where nothing was worked out yet.

    "To get to 18, we …": as the aim; "She makes 18 dollars. …", "The answer of 18 is found by 16 - 7 …": as the only number
    there, with no word that counts.
    """
    gold = canonical(question.answer or "", "numeric") if question.kind == "numeric" else None
    placed = _placed_numbers(head)
    if gold is None or gold not in {number for number, _ in placed}:
        return False
    if gold in {number for number, _ in _placed_numbers(question.text)}:
        return False
    if any(number == gold and _AIM.search(head[:start]) for number, start in placed):
        return True
    is_alone = len(placed) == 1 and (head != sentence or len(_placed_numbers(sentence)) == 1)
    return is_alone and _COUNTS.search(head) is None


def _has_reason(before: str) -> bool:
    """Whether what stands before a claim gives a reason for it: some words and a word that concludes."""
    concluding = [match.start() for match in _CONCLUDES.finditer(before)]
    return bool(concluding) and len(_WORD.findall(before[: concluding[-1]])) >= _REASON_WORDS


def _is_gold(text: str, question: Question) -> bool:
    gold = canonical(question.answer or "", question.kind, question.choices)
    return gold is not None and canonical(text, question.kind, question.choices) == gold


def _numbers(text: str) -> list[str]:
    return [number for number, _ in _placed_numbers(text)]


def _placed_numbers(text: str) -> list[tuple[str, int]]:
    """The numbers of a text in canonical form, with where they begin."""
    return [
        (written(number), number.span[0])
        for number in find_numbers(text)
        if number.value is not None
    ]
