"""What a person sees of the image path in a terminal. Everything else in this package prints nothing."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.sam2.ablate import Ablation
from harness.sam2.accuracy import Accuracy
from harness.sam2.click import Clicked
from harness.sam2.fidelity import PUBLISHED_OPS, Fidelity

RANDOM_NOTE = "[yellow]Random weights: the masks mean nothing; how far two runs of them differ does.[/]"


def ablation_table(found: Ablation) -> Table:
    """The ways of writing the decoder."""
    table = Table("LayerNorm", "attention", "sums", "else", box=None, header_style="dim", pad_edge=False)
    for title in ("ops", "on GPU", "cosine", "mask IoU", "error / ideal", "worst op", "time / card's"):
        table.add_column(title, justify="right")
    table.add_column("culprits")
    for row in found.rows:
        culprits = ", ".join(f"{c.record.op} #{c.record.index} ({c.cause})" for c in row.culprits)
        table.add_row(
            row.variant.layernorm,
            row.variant.attention,
            row.variant.reductions,
            ", ".join(row.variant.further) or "as the card",
            str(row.ops),
            "all" if row.residency.full else "part",
            f"{row.accuracy.cosine:.6f}",
            f"{row.accuracy.best_iou:.4f}",
            f"{row.accuracy.error_ratio:.1f}x",
            f"{row.worst_op} {row.worst_ratio:.0f}x",
            f"{row.millis / found.card_millis:.2f}",
            escape(culprits) if culprits else ("[green]none[/]" if row.status == "pass" else "[yellow]unresolved[/]"),
        )
    return table


def show_ablation(found: Ablation, out: Console) -> None:
    """The end of an ablation."""
    out.print(ablation_table(found))
    out.print(f"\n{escape(found.scene)}, {escape(found.provenance)}; {escape(found.device.get('gpu', ''))}.")
    if found.is_random:
        out.print(RANDOM_NOTE)


def show_accuracy(found: Accuracy, out: Console) -> None:
    """One decoder on several photos."""
    table = Table("scene", box=None, header_style="dim", pad_edge=False)
    for title in ("best IoU", "least", "ideal", "cosine", "max error", "ideal", "ratio"):
        table.add_column(title, justify="right")
    table.add_column("")
    for scene in found.scenes:
        table.add_row(
            escape(scene.scene),
            f"{scene.best_iou:.4f}",
            f"{scene.least_iou:.4f}",
            f"{scene.ideal_iou:.4f}",
            f"{scene.cosine:.6f}",
            f"{scene.max_error:.3g}",
            f"{scene.ideal_max_error:.3g}",
            f"{scene.error_ratio:.2f}x",
            "[green]right[/]" if scene.ok else "[red]wrong[/]",
        )
    out.print(table)
    out.print(
        "\nBest: the mask that the CPU's scores prefer. Ideal: the least IoU of the candidates and the largest error\n"
        "that float16 storage gives with exact arithmetic."
    )
    out.print(f"{found.variant}, {escape(found.provenance)}; {escape(found.gpu)}.")
    if found.is_random:
        out.print(RANDOM_NOTE)


def show_fidelity(found: Fidelity, out: Console) -> None:
    """The model card's table."""
    table = Table("figure", box=None, header_style="dim", pad_edge=False)
    for title in ("value", "goal"):
        table.add_column(title, justify="right")
    table.add_column("")
    words = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}
    for figure in found.figures:
        sign = "≥" if figure.better == "higher" else "≤"
        goal = "" if figure.goal is None else f"{sign} {figure.goal:.8g}"
        table.add_row(escape(figure.name), f"{figure.value:.8g}", goal, words[figure.ok])
    for scores in found.scores:
        pair = (", ".join(f"{score:.4f}" for score in side) for side in (scores.got, scores.reference))
        table.add_row(f"{scores.weights} IoU scores", *pair, "")
    for file in found.files:
        refused = f"refused: {file.audit.unsupported[0]}" if file.audit.unsupported else "nothing refused"
        table.add_row(f"{file.name}, ops", str(file.audit.total), f"rank {file.audit.max_rank}", escape(refused))
    counts = ", ".join(f"{op} {count}" for op, count in PUBLISHED_OPS.items())
    if found.histogram_ok is not None:
        table.add_row("op counts as published", counts, "", words[found.histogram_ok])
    out.print(table)
    out.print(f"\n{found.variant}, {escape(found.scene)}, {escape(found.provenance)}.")
    if found.is_random:
        out.print(RANDOM_NOTE)


def show_click(found: Clicked, out: Console) -> None:
    """The end of a click."""
    table = Table("mask", box=None, header_style="dim", pad_edge=False)
    for title in ("of the photo", "score", "ms"):
        table.add_column(title, justify="right")
    for mask in found.masks:
        decoded = mask.decoded
        score = f"{decoded.scores[decoded.best]:.3f}"
        table.add_row(escape(str(mask.overlay)), f"{mask.area:.1%}", score, f"{decoded.millis:.1f}")
    out.print(table)
    decoder = found.masks[0].decoded
    out.print(
        f"\nEncoder on the {found.encoded.unit.upper()} in {found.encoded.millis:.0f} ms, decoder ({found.variant}) on "
        f"the {decoder.unit.upper()}; {escape(found.provenance)}."
    )
    if found.nonfinite:
        out.print(
            f"[red]{found.nonfinite} of the decoder's logits and scores are NaN or infinite: the masks are wrong.[/] "
            "`--decoder cpu` or `--encoder cpu` shows where that begins."
        )
    if found.is_random:
        out.print(RANDOM_NOTE)
    out.print(f"[dim]{escape(str(Path(found.folder) / 'click.json'))}[/]")
