"""`make bench`, the part on time and memory of the methods, against the frozen model and peft.

As in bench_quant.py, each table comes from a process of its own. All of it takes 12 minutes.
"""

from __future__ import annotations

from bench_quant import KEEP, fresh

# Times the frozen model, what issue 5 wants of us at most.
LIMITS = {
    "LoRA": 1.06, "LoRA, dropout 0.1": 1.15, "DoRA": 1.15,
    "prefix tuning": 1.02, "IA³": 1.02, "BitFit": 1.02,
}  # fmt: skip
KEPT, PLAIN = 300, 180  # seconds for the steps, with memory kept in the process and without

SAYS = """## A step with each method

Llama: 6 layers, width 768, feed-forward 2,048, vocabulary 8,000; batch 4 x 128; forward and
backward; one thread. LoRA and DoRA: r = 16, all linear layers; prefix tuning: 20 virtual tokens.
1 is the frozen model itself, with gradients to its input embeddings (BitFit: the same Llama with
biases, and its own frozen model); all sides stand over the same weights. Milliseconds are the
processor's, without what other processes took. The rows, and the sides of each row, were run in
fresh order in every turn. A ratio is the median of those within a turn, with the quartiles in
brackets; "fastest" is the ratio of both sides' fastest steps, which a slow minute of the machine
does not reach. In the last columns freed memory goes back to the system, as glibc does by itself,
and both sides wait for new pages; in the others it stays in the process.
"""


def said(row: tuple[float, float, float]) -> str:
    """A median with its quartiles."""
    low, middle, high = row
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


def steps() -> list[str]:
    """The table of the steps."""
    kept = fresh("lora_runs", f"steps({KEPT})", 1, **KEEP)
    plain = fresh("lora_runs", f"steps({PLAIN})", 1)
    lines = [
        SAYS,
        f"{kept.pop('turns')} turns with memory kept, {plain.pop('turns')} without.\n",
        "| | at most | ms | times frozen | fastest | times peft | fastest "
        "| times frozen, new pages | times peft, new pages |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ("frozen", *LIMITS):
        for side, called in (("ours", name), ("peft", f"{name}, peft")):
            row, other = kept[name], plain[name]
            if side not in row:
                continue
            own, pair = f"{side}/frozen", "ours/peft" if side == "ours" and "peft" in row else ""
            cells = [f"{1e3 * row[side][1]:.0f}", said(row[own]), f"{row[f'fastest {own}']:.3f}"]
            cells += [said(row[pair]), f"{row[f'fastest {pair}']:.3f}"] if pair else ["", ""]
            cells += [said(other[own]), said(other[pair]) if pair else ""]
            limit = f"{LIMITS[name]:.2f}" if side == "ours" and name in LIMITS else ""
            called = "the frozen model again" if name == "frozen" else called
            lines.append(f"| {called} | {limit} | " + " | ".join(cells) + " |")
    return lines


def adding() -> list[str]:
    """The table of `get_peft_model` with DoRA."""
    lines = [
        "\n## Adding DoRA\n\n`get_peft_model` with a DoRA of r = 16 on all linear layers of that "
        "Llama, in fresh order,\n9 turns; at most 0.1 times peft.\n",
        "| | ms | peft's ms | times peft |\n|---|---:|---:|---:|",
    ]
    for called, environment in (("memory kept", KEEP), ("new pages", {})):
        row = fresh("lora_runs", "adding(9)", 1, **environment)
        ms = f"{1e3 * row['ours'][1]:.1f} | {1e3 * row['peft'][1]:.1f}"
        lines.append(f"| {called} | {ms} | {said(row['ours/peft'])} |")
    return lines


def saved() -> list[str]:
    """The table of what autograd keeps."""
    lines = [
        "\n## What autograd keeps\n\nFor each layer with an adapter, beyond what it keeps for the "
        "frozen layer: distinct storages, without\nparameters and without the layer's own input, "
        "in numbers of (tokens x r); the mean of that Llama's\n42 layers. At most 1 for LoRA "
        "without dropout.\n",
        "| | minipeft | peft |\n|---|---:|---:|",
    ]
    for name, (ours, theirs) in fresh("lora_runs", "saved(0)", 1).items():
        lines.append(f"| {name} | {ours:.2f} | {theirs:.2f} |")
    return lines


def report() -> list[str]:
    """All tables, as lines of the page."""
    return [*steps(), *adding(), *saved()]


if __name__ == "__main__":
    print("\n".join(report()))
