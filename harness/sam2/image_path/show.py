"""What a person sees of the image path in a terminal. Everything else in this package prints nothing."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.core.markup import escape
from harness.core.visible import best_at_one
from harness.sam2.image_path.ablate import Ablated, Ablation
from harness.sam2.image_path.accuracy import Accuracy
from harness.sam2.image_path.click import Clicked
from harness.sam2.image_path.fidelity import PUBLISHED_OPS, Fidelity
from harness.sam2.shared.contract import AXES, CARD, PRESETS, DecoderVariant
from harness.sam2.shared.unit import RANDOM_NOTE


def variant_name(variant: DecoderVariant) -> str:
    """What `--variant` calls it, as short as that goes: its own name, or the words that the card's decoder lacks."""
    known = next((name for name, preset in PRESETS.items() if preset == variant), None)
    words = [word for axis in AXES if (word := getattr(variant, axis)) != getattr(CARD, axis)]
    return known or "-".join(words)


def ablation_table(found: Ablation) -> Table:
    """The ways of writing the decoder; 80 columns hold it."""
    table = Table("decoder", box=None, header_style="dim", pad_edge=False)
    for title in ("ops", "cosine", "best IoU", "least", "error", "time"):
        table.add_column(title, justify="right")
    for row in found.rows:
        table.add_row(
            variant_name(row.variant),
            str(row.ops),
            best_at_one(row.accuracy.cosine),
            f"{row.accuracy.best_iou:.4f}",
            f"{row.accuracy.least_iou:.4f}",
            f"{row.accuracy.error_ratio:.1f}x",
            "–" if math.isnan(row.millis / found.card_millis) else f"{row.millis / found.card_millis:.2f}",
        )
    return table


def _blamed(row: Ablated) -> str:
    """The culprits, those of one op and cause together: `3 BATCH_MATMUL #49, #171, #259 (accumulation)`."""
    if not row.culprits:
        return "[green]none[/]" if row.status == "pass" else "[yellow]unresolved[/]"
    alike: dict[tuple[str, str], list[str]] = {}
    for culprit in row.culprits:
        alike.setdefault((culprit.record.op, culprit.cause), []).append(f"#{culprit.record.index}")
    kinds = (f"{len(ops)} {op} {', '.join(ops)} ({cause})" for (op, cause), ops in alike.items())
    return escape("; ".join(kinds)) + ("" if row.certified else "; [yellow]not certified[/]")


def show_ablation(found: Ablation, out: Console) -> None:
    """The end of an ablation."""

    def say(sentence: str) -> None:
        out.print(sentence, soft_wrap=not out.is_terminal)

    out.print(ablation_table(found))
    say(
        "\nIoU with the CPU's masks: the one that the CPU's scores prefer, and the least of the candidates. Error: the "
        "largest of a logit, over that of ideal float16 storage. Time: over the card's, or the first's without it.\n"
    )
    for row in found.rows:
        say(f"[bold]{variant_name(row.variant)}[/]: {_blamed(row)}")
        if row.worst_op:
            say(f"  worst op {row.worst_op}, {row.worst_ratio:.3g}x what its arithmetic explains")
        if not row.residency.full:
            say("  [yellow]the GPU took only a part[/]")
    say(f"\n{escape(found.scene)}, {escape(found.provenance)}; {escape(found.device.get('gpu', ''))}.")
    if found.is_random:
        say(RANDOM_NOTE)


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
            best_at_one(scene.cosine),
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
    out.print(f"Held to {escape(found.against)}.")
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
        on_gpu = [word for word, unit in (("encoder", found.encoded.unit), ("decoder", decoder.unit)) if unit != "cpu"]
        ways = " or ".join(f"`--{word} cpu`" for word in on_gpu)
        out.print(
            f"[red]{found.nonfinite} of the decoder's logits and scores are NaN or infinite: the masks are wrong.[/] "
            + (f"{ways} shows where that begins." if ways else "All ran on the CPU, so the model's own values are.")
        )
    if found.is_random:
        out.print(RANDOM_NOTE)
    out.print(f"[dim]{escape(str(Path(found.folder) / 'click.json'))}[/]")
