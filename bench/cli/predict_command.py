"""`bench predict`: the same job on N accelerators, in time, money, energy and failures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bench.cli.help import HelpedCommand
from bench.cli.options import colour, form, wide

SHAPE = (
    click.option("--model", metavar="NAME", help="Such as llama3-70b. A shape of your own: --help-all."),
    click.option("--layers", type=int, help="Layers."),
    click.option("--hidden", type=int, help="Width."),
    click.option("--heads", type=int, help="Attention heads."),
    click.option("--kv-heads", type=int, help="Key and value heads; default as many as heads."),
    click.option("--ffn-hidden", type=int, help="Width of the feed-forward block (of an expert); default 4 x hidden."),
    click.option("--gated", is_flag=True, help="The feed-forward block has three matrices (SwiGLU)."),
    click.option("--vocab", type=int, help="Vocabulary."),
    click.option("--experts", type=int, help="Experts of a layer."),
    click.option("--active-experts", type=int, help="Experts that a token goes to."),
    click.option("--sequence", type=int, help="Tokens of a sequence; default the model's own."),
    click.option("--batch", type=int, help="Sequences per step; default 16 Mi tokens."),
    click.option("--precision", type=click.Choice(["bf16", "fp16", "fp8", "fp8-rowwise", "fp32"]), default="bf16",
                 show_default=True, help="Of matrix products. fp8: one scale per tensor or row; fp32: with --from."),
)  # fmt: skip
DEVICES = (
    click.option("--gpus", metavar="N[,N...]", help="Accelerators; several numbers: side by side."),
    click.option("--accelerator", metavar="NAME", default="H100-SXM-80GB", show_default=True,
                 help="A name, or a mixed fleet: H100=150000,H200=50000."),
    click.option("--nic-gbit", type=float, help="Gbit/s per accelerator; default the catalogue's."),
    click.option("--link-gb-per-s", type=float, help="GB/s one way of an accelerator within its scale-up domain."),
    click.option("--domain-size", type=int, help="Accelerators of a scale-up domain; default 8, 72 for NVL72."),
    click.option("--memory-gb", type=float, help="Memory of an accelerator, in place of the catalogue's."),
    click.option("--stack", default="megatron-core", show_default=True,
                 help="Training software: bench help predicting."),
    click.option("--jitter", metavar="SHARE", help="Standard deviation of a rank's step, such as 1%."),
    click.option("--from", "sources", multiple=True, metavar="FILE",
                 help="Results of `bench run`: measured rates in place of the catalogue's. Repeatable."),
    click.option("--device-share", type=float, default=1.0, show_default=True,
                 help="With --from: what a rank has of a device, such as 0.5 if two ranks run on one core."),
)  # fmt: skip
SPLIT = (
    *(click.option(f"--{name}", type=int, help=f"{text}; default searched.") for name, text in (
        ("tp", "Tensor parallelism"), ("pp", "Pipeline parallelism"), ("dp", "Replicas"), ("cp", "Context parallelism"),
        ("ep", "Expert parallelism"), ("microbatch", "Sequences of a microbatch"),
        ("interleave", "Stages of a pipeline rank"),
        ("zero", "Stage of ZeRO, 0 to 3"),
    )),
    click.option("--schedule", help="gpipe, 1f1b, interleaved, zb1p or zb2p; default searched."),
    click.option("--recompute", help="none, selective, half or full; default the least that fits."),
    click.option("--top", type=int, default=5, show_default=True, help="Splits to show."),
)  # fmt: skip
SCALE = (
    click.option("--sweep", metavar="gpus=8..100000", help="Weak and strong scaling over this range."),
    click.option(
        "--plots", type=click.Path(path_type=Path, file_okay=False), help="Folder for plots of what is predicted."
    ),
    click.option("-o", "--output", type=click.Path(path_type=Path), help="A page of it all, with plots: NAME.html."),
    click.option("--all", "everything", is_flag=True, help="All tables: parts, splits, money, assumptions."),
)
FAILURES = (
    click.option("--mtbf", metavar="TIME", help="Mean time between failures of a device; default Llama 3's."),
    click.option("--mtbf-per", type=click.Choice(["device", "node"]), default="device", show_default=True,
                 help="What --mtbf is of."),
    click.option("--checkpoint-seconds", metavar="TIME", help="Of a checkpoint; default its bytes over the storage."),
    click.option("--checkpoint-interval", metavar="TIME", help="Time between checkpoints; default the best."),
    click.option("--storage-gb-per-s", type=float, help="Bandwidth of a checkpoint, all devices together."),
    click.option("--restart", metavar="TIME", help="From a failure to the next step; default 600s."),
    click.option("--failure-domain", multiple=True, metavar="NAME=DEVICES:TIME[:RESTART]",
                 help="A power feed or cooling loop that takes many devices with it. Repeatable."),
)  # fmt: skip
MONEY = (
    click.option("--price", multiple=True, metavar="NAME=USD",
                 help="Rent of an accelerator-hour; default the price file's cheapest."),
    click.option("--spot", is_flag=False, flag_value="file", metavar="[NAME=USD]",
                 help="Spot price; alone: the price file's."),
    click.option("--preemptions", type=float, default=0.0, show_default=True, help="Of a spot node, a day."),
    click.option("--own", is_flag=False, flag_value="", metavar="[NAME=NUMBER,...]",
                 help="purchase_usd, installation, years, residual, kw, pue, usd_per_kwh, operations, utilisation."),
    click.option("--prices", type=click.Path(dir_okay=False), help="A price file in place of the product's dated one."),
    click.option("--tokens", type=float, help="Tokens of a training run; default 15e12."),
    click.option("--waiting", type=float, metavar="USD", help="What a day of waiting for the run costs."),
)  # fmt: skip


def _add_options(command: Any) -> Any:
    for option in reversed((*SHAPE, *DEVICES, *SPLIT, *SCALE, *FAILURES, *MONEY)):
        command = option(command)
    return command


_COMMON = (
    "model", "batch", "precision", "gpus", "accelerator", "nic_gbit", "sources", "sweep", "output", "price",
    "own", "everything", "form",
)  # fmt: skip


@click.command(name="predict", cls=HelpedCommand, page="predicting", common=_COMMON)
@_add_options
@wide
@form
def command(form: str, everything: bool, wide: bool, **options: Any) -> int:
    """Predict a training job on N accelerators: time, cost, memory, the best split, failures and scaling.

    A prediction is never a measurement. The answer comes first; --all has every table, what the prediction rests on,
    and the effects that are not modelled. --from takes rates from results of `bench run`, in place of the catalogue's.

    \b
    Examples:
      bench predict --model llama3-70b --gpus 4096 --accelerator H100-SXM-80GB
      bench predict --model llama3-405b --gpus 24000,100000 --own
      bench predict --model llama3-405b --accelerator H100=15000,H200=5000
      bench predict --model llama3-405b --gpus 24000 -o prediction.html
    """
    from bench.core.terminal import echo, output_width
    from bench.predict.predict import predict_each
    from bench.predict.printing import show
    from bench.predict.progress import SearchProgress

    width = output_width(sys.stdout)
    progress = SearchProgress(sys.stderr)
    try:
        predictions = predict_each(options, progress)
    finally:
        progress.close()
    if options["plots"] is not None:
        from bench.predict import plots

        for path in plots.save_each(predictions.jobs, options["plots"]):
            echo(f"saved {path}", err=True)
    if options["output"] is not None:
        from bench.predict import page

        page.save(predictions, options["output"])
        echo(f"saved {options['output']}", err=True)
    echo(show(predictions, form, width, colour(), everything or wide, wide), nl=False)
    return 0
