"""Habits of English to avoid in texts for users, as a table: a name, a pattern, a text it catches, a text it leaves.

Patterns see one sentence, in which inline code is the word `CODE`. A habit has a row if its pattern is nearly always
right; a doubtful one is for a reader to find. A further habit is a further row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

UNITS = (
    "rank|device|launch|step|layer|stage|case|call|node|GPU|core|suite|microbatch|run|link|process|host|kind|side|"
    "sample|token|sequence|message|replica|group|key|row|size|page|product|workload|pair|variant|metric|accelerator|"
    "block|expert|head|socket|switch|operation|collective|turn|server|family|bucket|element|iteration|channel|rack"
)
RATES = (
    r"[A-Za-z]+/s|[KMGT]i?B|bytes|FLOPs?|USD|dollars|tokens?|samples|seconds|ms|us|joules|launches|calls|ranks|"
    r"files?|lines?|rows?|once|twice|one|two|three|four|each|\d+"
)
PER_ONE = "file|line|row|test|metric|value|column|page|process|sentence"
NOT_AFTER = "".join(
    f"(?<!{word} )" for word in ("say", "says", "show", "shows", "tell", "tells", "know", "from", "see")
)
IF_WORDS = "there|no|none|nothing|neither|that|several|more|fewer|two|both|torch|memory|not"
RAISES = r"raises? (?!from|in|to)\w+(?: on every rank)?"
PASSIVE = r"\b(?:is|are|was|were|be|been) (?:\w+ly )?(?:\w+ed|taken|held|made|given|known|shown|found)\b"


@dataclass(frozen=True)
class Rule:
    """One habit: its pattern, what to write instead, a text that it catches and one that it leaves alone."""

    name: str
    pattern: str
    instead: str
    caught: str
    fine: str

    def search(self, sentence: str) -> re.Match[str] | None:
        return re.search(self.pattern, sentence, re.I)


RULES = (
    Rule(
        "a for per",
        rf"\b(?:{RATES}) an? (?:{UNITS})\b(?! (?:is|has|are|that)\b)|\ban? (?:{PER_ONE}) an? (?:{UNITS})\b",
        "per",
        "It reaches 12 GB/s a device, with a file a rank.",
        "It reaches 12 GB/s per device; each rank writes a file.",
    ),
    Rule(
        "where for if",
        rf"\b(?:none|nothing|missing|empty|true|false|skip(?:s|ped)?|left out|fails?|failed|only|even|absent|0|1|"
        rf"{RAISES}) where\b|{NOT_AFTER}\bwhere (?:{IF_WORDS})\b",
        "if",
        "None where there is no limit.",
        "The page shows where no time goes.",
    ),
    Rule(
        "what as a subject",
        r"(?:^|[.;] )(?:and |but )?what (?!to\b|for\b|if\b|kind\b)(?:\w+ ){1,8}?(?:is|are|was|were|has|have|counts?|"
        r"comes?|stays?|goes|takes|needs|can|cannot|does|becomes|follows|stands?|means|state)\b[^?]*[^?\s]$",
        "the thing itself: figures that ..., cases that ...",
        "What cannot run is left out.",
        "Say what is wrong and what to do.",
    ),
    Rule(
        "so many",
        r"\bso (?:many|much|few|little)\b(?! (?:that|as)\b)",
        "the number, this many",
        "A cluster of so many accelerators.",
        "It waits so long that many can join, and so much that it ends.",
    ),
    Rule(
        "can be had",
        r"\b(?:can|could|to|cannot|may|might|must|not) be had\b|\b(?:is|are|was|were) (?:not )?had\b|\bhad back\b",
        "is available",
        "Uncached reads cannot be had.",
        "The run had two hosts.",
    ),
    Rule("mend", r"\bmend(?:s|ed|ing)?\b", "fix", "Mend the file.", "Fix the file, as we recommend."),
    Rule(
        "told",
        r"\btold\b(?! apart)",
        "given, reported",
        "Everything else is told.",
        "The two cannot be told apart.",
    ),
    Rule(
        "beside",
        r"\bbeside\b",
        "next to, besides, compared with",
        "The best constant beside it.",
        "Besides that, the table is next to it.",
    ),
    Rule("dear", r"\bdear(?:er|est)?\b", "expensive", "Cheap ones before dear ones.", "Expensive cases come last."),
    Rule(
        "equals as a noun",
        r"\b(?:no|its|their|as|are|of|the|among) equals\b|\bequals (?:of|are|with|that|show)\b",
        "similar machines",
        "Compare it with its equals.",
        "The sum equals the total.",
    ),
    Rule(
        "to mean it",
        r"\bto mean it\b|\bis meant\b(?! (?:to|for)\b)|\bas meant\b|\bif you mean it\b",
        "on purpose",
        "That is how to mean it.",
        "The test is meant to be fast.",
    ),
    Rule(
        "makes of",
        r"\bmakes? \d+ of\b|\bmakes? (?:nothing|no time|no case)\b|\bmakes? of (?:it|this|that|nothing)\b",
        "turns into",
        "torchrun makes 1 of every code.",
        "It makes one file of each kind.",
    ),
    Rule("anew", r"\banew\b", "again", "Draw it anew.", "Draw a new one."),
    Rule(
        "hold against",
        r"\b(?:held|holds?|holding)\b[^.,;]{0,25}\bagainst\b",
        "compare with",
        "Each run is held against the first.",
        "The test holds, and nothing is against it.",
    ),
    Rule(
        "stand for be",
        r"\bst(?:ands?|ood) (?:once|twice|below|above|beside|in(?! for)|on|there|here|at|under|before|after|first|last|"
        r"next|where|only|behind)\b",
        "is, appears",
        "Shared parameters stand once below it.",
        "One rank stands out; a name stands for a host, one GPU stands in for another.",
    ),
    Rule("fall out", r"\b(?:falls?|fell) out\b", "cancels, is left out", "The drift falls out.", "It fell by half."),
    Rule("for want of", r"\bfor want of\b", "because there is no", "Left out for want of room.", "Ask if you want it."),
    Rule(
        "hand for pass",
        r"\bhand(?:s|ed|ing)? (?:its|it|them|their|each|every|over|a|on|out|back|the)\b",
        "send, pass",
        "A stage hands its part over.",
        "Files written by hand are read too.",
    ),
    Rule("whoever", r"\bwho(?:m|so)?ever\b", "the reader, the user", "Whoever reads it knows.", "The reader knows."),
    Rule(
        "persons for things",
        r"\b(?:nobody|somebody|anybody|everybody)\b",
        "no rank, no program, someone",
        "There is nobody to send to.",
        "There is no other rank.",
    ),
    Rule(
        "too few to say",
        r"\btoo (?:few|little|short|small) to (?:say|tell)\b",
        "the number that is needed",
        "Too few to say anything.",
        "Too few to fill the table; six are needed.",
    ),
    Rule(
        "most telling",
        r"\b(?:most|more|less|least|so|as) telling\b|\btells? (?:most|more|least)\b",
        "informative",
        "The most telling cases come first.",
        "The page tells them apart.",
    ),
    Rule(
        "old adverbs",
        r"\b(?:thereof|therein|thereby|therewith|whereof|wherein|whereby|hereby|whence|thence|lest|albeit|inasmuch|"
        r"nought|aught|ere|thereupon|whereupon)\b",
        "a plain word",
        "The file and the lines thereof.",
        "The file and its lines, there and here.",
    ),
    Rule(
        "is said",
        r"(?<!it )\b(?:is|are|was|were|be) said\b(?! to\b)",
        "is shown, is given",
        "The number of ranks is said below.",
        "She said so, and it is said to be fast.",
    ),
    Rule(
        "nothing but",
        r"\b(?:nothing|none|anything|no one) but\b|, but for\b|\ball but (?:the|a|one|those)\b",
        "only, except",
        "A machine that has nothing but Python.",
        "It has nothing. But it runs.",
    ),
    Rule(
        "yet to be",
        r"\b(?:is|are|was|were|has|have) yet to\b",
        "not yet",
        "A case that is yet to be measured.",
        "It is not measured yet.",
    ),
    Rule(
        "less for minus",
        r", less (?:the|its|that|those|what|their|an?|\d+|one)\b|\b(?:time|over \w+) less (?:1|one|the|that)\b",
        "minus",
        "The ratio of both, less 1.",
        "It takes less than the other.",
    ),
    Rule(
        "no for not",
        r"(?<!there )\b(?:is|are|was|were) no (?!longer|more|less|fewer|such|other|better|worse|faster|slower|one\b|"
        r"point|need|reason|use|wider|smaller|larger|result|match|doubt|later|earlier)\w+",
        "is not a",
        "The first line is no header.",
        "There is no header, and it is no longer read.",
    ),
    Rule("alone for only", r"'s alone\b|: - alone\b", "only", "Colour is a terminal's alone.", "Each rank runs alone."),
    Rule(
        "someone's doing",
        r"\b(?!what's|it's|that's)\w+'s doing\b",
        "is caused by",
        "The wait is the schedule's doing.",
        "Look what the rank is doing.",
    ),
    Rule(
        "lend",
        r"\b(?:lends?|lent|lending|borrow(?:s|ed|ing)?)\b",
        "share, use",
        "Packages lent by the environment.",
        "The lens of the camera.",
    ),
    Rule(
        "unlike for different",
        r"\b(?:of|are|is|two|these|the|if|and|very) unlike\b(?! (?:the|a|an|in|that|all|other|CODE|most)\b)",
        "different",
        "Machines of unlike kind.",
        "It is unlike the other.",
    ),
    Rule(
        "taken for",
        r"\btak(?:es|en|ing) for (?:an? |the )?(?:slow|stuck|noise|new|dead|hung|real|right|wrong|bad)\b",
        "treated as, looks like",
        "A rank is taken for dead.",
        "The time that it takes for a step.",
    ),
    Rule(
        "whole after a verb",
        r"\b(?:takes?|taken|makes?|made|keeps?|kept|shows?|shown) whole(?=[.,;:]|$| (?:by|in|until|when|if|since)\b)",
        "in full",
        "Suites that a run takes whole.",
        "It takes whole numbers.",
    ),
    Rule(
        "make sure of",
        r"\bmakes? (?:no )?\w+ sure\b(?! (?:that|it|of))",
        "proves",
        "Three launches make no case sure.",
        "It makes sure that all ranks meet.",
    ),
    Rule(
        "translated verbs",
        r"\bstanding still\b|\bstands? still\b|\bputs? off\b|\bgets? in (?:each other's|the) way\b|\bcarried over\b|"
        r"\bheld up for\b|\bgoes? under\b",
        "waits, is postponed, disturbs",
        "The host's standing still is subtracted.",
        "The host waits, and that time is subtracted.",
    ),
    Rule(
        "chain of of",
        r"\bof (?:\w+ ){1,3}of (?:\w+ ){1,3}of (?:\w+ ){1,3}of\b",
        "two sentences",
        "The share of the time of the ranks of a node of that kind.",
        "The share of a rank's time on a node of that kind.",
    ),
    Rule(
        "chain of passives",
        rf"(?:{PASSIVE}.*?){{5}}",
        "who does it",
        "It is measured, was checked, is saved where it is found, and is shown if it is known.",
        "It is measured and checked; `bench` saves it and shows it.",
    ),
)
