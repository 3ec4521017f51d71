"""Write the page on mixed and uniform clusters, bench/docs/mixed_or_uniform.md.

python scripts/write_mixed_page.py            # writes the page
python scripts/write_mixed_page.py --check    # exit 1 if it is not what the data and the code say

No figure stands in this file: all are of `scripts/mixed_figures.py`, from the catalogue, the saved results and the
product's own prediction.
"""

from __future__ import annotations

import statistics
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import mixed_figures as figures
from mixed_figures import GB200, H100, H200, Predicted, Range

from bench.catalog import published
from bench.catalog.accelerators import named
from bench.core.values import show_number

PAGE = figures.ROOT / "bench" / "docs" / "mixed_or_uniform.md"
WIDTH = 120
BASES = """Every figure has its basis. **Measured**: by us, on one H100 and one H200. **Emulated**: measured on equal
CPU ranks, one of them slowed on purpose. **Published**: by others. **Predicted**: by `bench predict`, for clusters that
were not measured here. **Rule**: arithmetic of `bench mix` on the figures named."""
LOST = """Lost: 1 - rate / sum of the rates of the parts alone. Equal shares: all wait for the slowest, so the number of
accelerators times the slowest speed is left, whatever the split. Balanced shares: the best whole numbers of
microbatches (data), of heads (tensor, 8 per rank if equal) and of layers (pipeline, 4 per stage if equal). Heads and
layers are coarser units than microbatches, and so win back less. A tensor or pipeline group within one kind loses
nothing by mixing: mix between groups, by data parallelism, and not within them."""
SERVES = """Decode reads all weights and the cache for every token, so by rule it is as fast as the memory. Independent
replicas do not wait for each other: serving adds up different speeds. The kind with the most decode per training gives
up least when it serves. Prefill and large batches are bound by computation, as training is, and favour no kind so."""


def page(predicted: Predicted) -> str:
    parts = [
        "# Mixed or uniform: one large cluster, and the cost of mixing accelerators",
        *_answer(predicted),
        BASES,
        "## The clusters",
        *_clusters(predicted),
        "## Losses by mixing",
        *_losses(predicted),
        "## The part that should serve",
        *_serving(predicted),
        "## Not known",
        _list(_unknown()),
        "## Sources",
        _list(_sources(predicted)),
        "Written by `scripts/write_mixed_page.py` from the data files and saved results; do not edit it.",
    ]
    return "\n\n".join(map(_wrapped, parts)) + "\n"


def _answer(predicted: Predicted) -> Iterator[str]:
    even, _, apart = predicted.over_mix(figures.equal_cost(GB200))
    even_by_power, _, apart_by_power = predicted.over_mix(figures.equal_power(GB200))
    yield (
        f"**Predicted: for equal cost, a uniform cluster of GB200 trains {_times(even)} times as fast as the published "
        f"mix of {figures.CLUSTER} in one job with equal shares. It trains {_times(apart)} times as fast as the mix "
        f"with one job per kind. For equal power: {_times(even_by_power)} and {_times(apart_by_power)} times.**"
    )
    loss = figures.loss(figures.mix_speeds(predicted), "data")
    yield (
        f"One job with equal shares loses {_percent(loss.lockstep)} of the rate of the parts, since all wait for the "
        f"slowest. Balanced shares by data parallelism leave {_percent(loss.balanced)} of it lost by rule; predicted, "
        f"they train {_times(predicted.balanced_gain())} times as fast as equal ones, and one job per kind "
        f"{_times(predicted.separate_gain())} times. H100 alone for the same money would train "
        f"{_times(predicted.uniform_h100())} times as fast: by these figures the lead of the GB200 comes from the "
        "newer accelerator more than from uniformity."
    )
    server = max(figures.counts(), key=lambda name: _decode_per_training(predicted, name).value)
    others = [name for name in figures.counts() if name != server]
    yield (
        f"The {_short(server)} should serve: it gives up least. {_both(others)}, each kind in a job of its own, then "
        f"train {_times(predicted.without(server))} times as fast as the whole mix in one job with equal shares."
    )


def _clusters(predicted: Predicted) -> Iterator[str]:
    price, mix = figures.costs()[0], figures.counts()
    cost, power = figures.equal_cost(GB200), figures.equal_power(GB200)
    gains = ("1 (the unit)", _times(predicted.balanced_gain()), _times(predicted.separate_gain()))
    usd, mw = price.of(mix) / 1e6, figures.mix_watts(True) / 1e6
    rows = [(f"{figures.CLUSTER}, mixed", f"{sum(mix.values()):,}", f"{usd:.2f}", f"{mw:.0f}", *gains)]
    for title, name, number, rate in (
        ("uniform GB200 of equal cost", GB200, cost, predicted.over_mix(cost)[0]),
        ("uniform GB200 of equal power", GB200, power, predicted.over_mix(power)[0]),
        ("uniform H100 of equal cost", H100, figures.equal_cost(H100), predicted.uniform_h100()),
    ):
        usd, mw = price.usd[name] * number.value / 1e6, figures.watts(name, True) * number.value / 1e6
        rows.append((title, _numbers(number), f"{usd:.2f}", f"{mw:.0f}", _times(rate), "the same", "the same"))
    counts = "*mix published, others by rule*"
    rows.append(("*basis*", counts, "*list price*", "*published*", *3 * ("*predicted*",)))
    heads = ("cluster", "accelerators", "million USD/h", "MW", "one job, equal shares", "balanced", "one job per kind")
    yield _table(heads, rows, "lrrrrrr")
    rate = predicted.interval(predicted.even.tokens_per_s) * 1e-6
    yield (
        f"{figures.CLUSTER}: {', '.join(f'{number:,} {_short(name)}' for name, number in mix.items())}. Training rates "
        f"are over that of the mix in one job with equal shares, {_numbers(rate)} million tokens/s of {figures.MODEL} "
        f"({figures.PRECISION}, {figures.BATCH:,} sequences per step, {figures.STACK}, {figures.NIC_GBIT:g} Gbit/s per "
        "accelerator). In brackets: the lowest and highest over the 95% intervals of the predictions and over all "
        "prices, put together at their worst, so wider than 95%. Errors of two predictions are taken to be "
        "independent, which they are not for one model and one software: the true intervals are narrower."
    )


def _losses(predicted: Predicted) -> Iterator[str]:
    speeds = figures.mix_speeds(predicted)
    eager, compiled = figures.measured_steps().values()
    rows = []
    for split in figures.PARALLELISM:
        for title, found, basis in (
            (f"{_count(H100)} H100, {_count(H200)} H200", figures.loss(_pair(eager), split), "measured steps, rule"),
            ("the same, torch.compile", figures.loss(_pair(compiled), split), "measured steps, rule"),
            ("the whole mix", figures.loss(speeds, split), "measured and predicted speeds, rule"),
            ("CPU ranks, one at 1/2 or 1/4", figures.emulated(split), "**emulated**"),
        ):
            rows.append((split, title, _percent(found.lockstep), _percent(found.balanced), basis))
    yield _table(("split by", "mix", "lost with equal shares", "lost with balanced shares", "basis"), rows, "llrrl")
    yield LOST
    yield (
        f"Measured: a whole training step of llama3-1b goes {_times(eager)} times as fast on the H200 as on the H100, "
        f"compiled {_times(compiled)} times. The ranges take both intervals at their worst. Predicted: the GB200 is "
        f"{_times(speeds[GB200])} times as fast as the H100. Emulated: median (lowest to highest) of the cases on 2 "
        f"and 4 ranks; of their predictions from a uniform step, {figures.rule_on_emulated()}. Below zero: noise of "
        "that machine."
    )


def _serving(predicted: Predicted) -> Iterator[str]:
    serving, training, copies = figures.serving_speeds(), figures.mix_speeds(predicted), figures.copies()
    rows = []
    for name in figures.counts():
        device = named(name)
        sheet = (
            f"{device.memory_tb_per_s:g}",
            _numbers(copies[name]) if name in copies else "-",
            f"{device.memory_gb:g}",
        )
        ratio = _times(_decode_per_training(predicted, name))
        rows.append((_short(name), *sheet, _times(serving[name]), _times(training[name]), ratio))
    rows.append(("*basis*", "*data sheet*", "*measured*", "*data sheet*", "*rule*", "*as above*", "*rule*"))
    heads = (
        "accelerator",
        "memory TB/s",
        "copy of 4 GiB, GB/s",
        "memory GB",
        "decode",
        "training",
        "decode / training",
    )
    yield _table(heads, rows, "lrrrrrr")
    yield (
        f"Decode and training are over the H100's; decode of the {_short(H200)} by the measured copies, of the "
        f"{_short(GB200)} by data sheets. {' '.join(SERVES.split())} An interval that holds 1 decides nothing between "
        "that kind and the H100."
    )


def _unknown() -> Iterator[str]:
    ratios = list(figures.published_ratios().values())
    yield (
        f"**GB200:** not measured by us. Published for {len(ratios)} models: {min(ratios):.1f} to {max(ratios):.1f} "
        f"times an H100 per accelerator, median {statistics.median(ratios):.1f} (FP8; batches and splits differ)."
    )
    yield (
        "**Cards of one kind:** one H100 and one H200 were measured, once each. How far cards of one kind differ among "
        "themselves is not in the figures."
    )
    yield (
        f"**The network of the mix:** not published. The prediction has {figures.NIC_GBIT:g} Gbit/s per accelerator in "
        "all parts and between them; slower links between the parts would add to the loss of one job."
    )
    yield (
        "**Failures:** left out. One job over more accelerators stops more often, which speaks for fewer and faster "
        "ones."
    )
    yield (
        "**Prices paid:** list prices of rent and rough prices of purchase are used instead; energy and the hall are "
        "left out."
    )
    yield "**Scheduling:** not published. No source says which jobs ran on which part, and for how many hours."
    yield "**Precision:** all is bfloat16. FP8 and FP4 are left out, and only Blackwell has FP4."
    yield "**Decode on the two cards:** measured, but bound by the host's launches, and so not used here."


def _sources(predicted: Predicted) -> Iterator[str]:
    for part in published.cluster(figures.CLUSTER):
        link = f"[{part.source}, {part.as_of}]({part.address})"
        yield f"{part.count:,} {_short(part.accelerator)}: {link}; {part.notes}."
    for cost in figures.costs():
        usd = ", ".join(f"{_short(name)} {usd:,g}" for name, usd in cost.usd.items())
        stand_in = "; a B200 stands in for the GB200" if cost.stands_in else ""
        yield f"Prices in USD {'per hour' if cost.per_hour else 'to buy one'}, {cost.source}: {usd}{stand_in}."
    for node in {node.name: node for node in published.nodes().values()}.values():
        yield f"Power of a {node.name}, {node.num_accelerators} accelerators: {node.kw:g} kW ({node.source})."
    low = figures.equal_power(GB200).low
    yield (
        f"Power of the accelerators alone, by data sheet: the mix {figures.mix_watts(False) / 1e6:.0f} MW, so "
        f"{low:,.0f} GB200 of equal power."
    )
    number, error = figures.prediction_errors()
    yield (
        f"Predictions: standard deviation {100 * predicted.error_share:.0f}% on published runs that nothing was fitted "
        f"to. Of {number} steps predicted and measured here, on CPU (`results/evidence/predict_step.md`), the median "
        f"error is {100 * error.value:.1f}%, half of them lie between {100 * error.low:.1f} and "
        f"{100 * error.high:.1f}%."
    )
    yield (
        "Measured: `results/gpu`, whole steps and copies of 4 GiB only; `results/gpu/README.md` says which others are "
        "not to be trusted. Emulated: `results/evidence/mixed.md`. Data files: `bench/catalog/data/SOURCES.md`."
    )
    yield (
        "The same for other machines: `bench mix a.jsonl=16 b.jsonl=48`, `bench predict --accelerator H100=16,H200=48`."
    )


def _decode_per_training(predicted: Predicted, name: str) -> Range:
    given = [figures.serving_speeds()[name], figures.mix_speeds(predicted)[name]]
    return figures.over(given, lambda decode, training: decode / training)


def _pair(ratio: Range) -> dict[str, Range]:
    return {H100: Range(1.0, 1.0, 1.0), H200: ratio}


def _short(name: str) -> str:
    return name.partition("-")[0]


def _both(names: Sequence[str]) -> str:
    return " and ".join(f"{_count(name)} {_short(name)}" for name in names)


def _count(name: str) -> str:
    return f"{figures.counts()[name]:,}"


def _times(found: Range) -> str:
    if found.low == found.high:
        return show_number(found.value)
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _percent(found: Range) -> str:
    value, low, high = (f"{100 * end:.1f}".replace("-0.0", "0.0") for end in (found.value, found.low, found.high))
    return f"{value}% ({low} to {high}%)"


def _numbers(found: Range) -> str:
    value, low, high = (show_number(end) for end in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    rules = ["---:" if side == "r" else "---" for side in align]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows))


def _list(lines: Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _wrapped(text: str) -> str:
    """Prose at WIDTH; tables and headings as they are, and no break within a link."""
    if text.startswith(("|", "#")):
        return text
    items = text.split("\n- ") if text.startswith("- ") else [" ".join(text.split())]
    indent = "  " if len(items) > 1 else ""
    marked = [items[0], *(f"- {item}" for item in items[1:])]
    return "\n".join(_filled(item, indent) for item in marked)


def _filled(text: str, indent: str) -> str:
    if "](" in text:
        return text
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def main() -> int:
    text = page(Predicted())
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE.name}: not what the data and the code say; run python scripts/write_mixed_page.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
