"""The sentences that a reader takes away, word for word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.report.record import parse_run
from harness.report.verdict import Verdict, group, reproduces, verdict_of

if TYPE_CHECKING:
    from tests.report.conftest import Json, Samples

ON = "in fp16 on llvmpipe (LLVM 15.0.6, 256 bits), Vulkan, software"


def judge(record: Json) -> Verdict:
    return verdict_of(parse_run(record))


def test_three_culprits_that_account_for_a_wrong_mask(samples: Samples) -> None:
    result = samples.localization(culprits=[samples.culprit(49), samples.culprit(171), samples.culprit(259)])
    assert judge(samples.record(result=result)) == Verdict(
        "bad",
        "3 ops at fault",
        f"3 ops break this model {ON}: BATCH_MATMUL #49, #171, #259 — float16 sums over 4096 products. Their local "
        "errors alone reproduce the failure: mask IoU 0.972 injected, 0.972 on the device.",
        (
            "Certified: reading the intermediates left the model's own outputs unchanged, and a second, different way "
            "of reading shows the same error at every culprit.",
        ),
    )


def test_one_culprit_whose_kernel_is_wrong(samples: Samples) -> None:
    result = samples.localization(
        culprits=[samples.culprit(1, op="PAD", cause="kernel", signature=None)],
        outputs=[samples.output("tanh_2", cosine=0.34884, relative_rms=None, max_abs=0.99925)],
        explained=[samples.impact("tanh_2", cosine=0.34885, max_abs=0.99901)],
    )
    assert judge(samples.record(result=result)).sentence == (
        f"1 op breaks this model {ON}: PAD #1 — it computes something else. Its local error alone "
        "reproduces the failure: cosine 0.349 injected, 0.349 on the device."
    )


def test_a_culprit_that_does_not_account_for_the_failure(samples: Samples) -> None:
    signature = "results reach 2.54e+06, beyond float16's 65504"
    result = samples.localization(
        culprits=[samples.culprit(3, op="SQUARED_DIFFERENCE", cause="overflow", signature=signature)],
        outputs=[samples.output("mul_7", cosine=0.0, relative_rms=None, max_abs=3.82)],
        explained=[samples.impact("mul_7", cosine=0.99918, max_abs=3.82)],
    )
    assert judge(samples.record(result=result)).sentence == (
        f"1 op breaks this model {ON}: SQUARED_DIFFERENCE #3 — results reach 2.54e+06, beyond float16's 65504. Its "
        "local error alone does not account for all of it: cosine 0.99918 injected, 0 on the device."
    )


def test_relative_errors_are_compared_and_quoted_where_they_were_recorded(samples: Samples) -> None:
    result = samples.localization(
        culprits=[samples.culprit(3)],
        outputs=[samples.output("mul_7", cosine=0.0, relative_rms=1.0)],
        explained=[samples.impact("mul_7", cosine=0.99918, relative_rms=1.0)],
    )
    assert judge(samples.record(result=result)).sentence.endswith(
        "Its local error alone reproduces the failure: relative error 1.00 injected, 1.00 on the device."
    )
    result["explained"] = [samples.impact("mul_7", cosine=0.99918, relative_rms=5e38)]
    assert "relative error over 10 injected, 1.00 on the device" in judge(samples.record(result=result)).sentence


def test_culprits_of_different_causes_are_named_apart(samples: Samples) -> None:
    result = samples.localization(
        culprits=[samples.culprit(9), samples.culprit(4, op="PAD", cause="kernel", signature="shifted by 3")],
        explained=[],
    )
    assert judge(samples.record(result=result)).sentence == (
        f"2 ops break this model {ON}: PAD #4 — shifted by 3; BATCH_MATMUL #9 — float16 sum over 4096 products."
    )


def test_ops_that_could_only_be_judged_together_are_one_place(samples: Samples) -> None:
    result = samples.localization(culprits=[samples.culprit(5, ops=[3, 5], op="ADD")], explained=[])
    assert judge(samples.record(result=result)).sentence.startswith(f"1 place breaks this model {ON}: 3 ops #3–5 — ")


def test_of_many_culprits_the_first_twelve_are_named_and_the_rest_counted(samples: Samples) -> None:
    result = samples.localization(culprits=[samples.culprit(i) for i in range(20)], explained=[])
    sentence = judge(samples.record(result=result)).sentence
    assert sentence.startswith("20 ops break")
    assert "#11 — float16 sums over 4096 products; and 8 more." in sentence
    assert "#12" not in sentence


def test_without_a_certificate_the_doubts_are_given(samples: Samples) -> None:
    doubt = "A direct tap of x reads differently from the copy tap"
    result = samples.localization(certified=False, culprits=[samples.culprit(2, certified=False, note=doubt)])
    verdict = judge(samples.record(result=result))
    assert verdict.support == (
        "Not certified: reading intermediates disturbed the model, or what was read does not explain all of it. What "
        f"does not fail by itself is a suspect. {doubt}.",
    )
    assert "reproduce" not in verdict.sentence


def test_a_culprit_that_was_found_without_taps_stands_on_its_own_failure(samples: Samples) -> None:
    window = samples.culprit(5, ops=[3, 5], op="ADD", cause="context", signature=None, isolated=True, certified=False)
    result = samples.localization(certified=False, culprits=[window | {"impact": []}])
    verdict = judge(samples.record(result=result))
    assert verdict.sentence == f"1 place breaks this model {ON}: 3 ops #3–5 — wrong only together with its neighbours."
    assert verdict.support == (
        "Not certified: reading intermediates disturbed the model, or what was read does not explain all of it. It was "
        "cut out, fed with the CPU's values, and failed by itself.",
    )


@pytest.mark.parametrize(("cause", "words"), [("crash", "it ends the process"), ("limits", "it goes beyond a limit")])
def test_an_op_of_a_model_that_does_not_run_is_said_to_be_found_by_windows(
    samples: Samples, cause: str, words: str
) -> None:
    fatal = samples.culprit(
        2, cause=cause, signature=None, local_error=None, ratio=None, certified=False, isolated=True
    )
    result = samples.localization(culprits=[fatal], certified=False, outputs=[], explained=[])
    found = verdict_of(parse_run(samples.record(result=result)))
    assert f"BATCH_MATMUL #2 — {words}" in found.sentence
    (support,) = found.support
    assert support.startswith("The model does not run as it is, so it was cut into windows")


def test_paths_of_a_run_are_told_from_its_folder_on(samples: Samples) -> None:
    remedy = {"name": "r", "ok": True, "path": "/far/results/run/remedies/r.tflite"}
    suspect = samples.culprit(2, reproducer="results/run/reproducers/0002-PAD", remedies=[remedy])
    (culprit,) = parse_run(samples.record(result=samples.localization(culprits=[suspect]))).culprits
    assert (culprit.reproducer, culprit.remedies[0].path) == ("reproducers/0002-PAD", "remedies/r.tflite")


def test_a_model_that_passes(samples: Samples) -> None:
    fine = {"status": "pass", "culprits": [], "explained": []}
    one = samples.localization(outputs=[samples.output(ok=True, ratio=2.682)], **fine)
    assert judge(samples.record(result=one)) == Verdict(
        "good",
        "Pass",
        f"This model passes {ON}: the error of its output is what float16 rounding predicts (2.68×, limit 16×).",
        ("Two runs of the untouched model agree within rounding.",),
    )
    # Of two outputs the one nearest to its own limit is told: 3 of 16 is more than 4 of 32.
    outputs = [samples.output(ok=True, ratio=4.0, limit=32.0), samples.output(ok=True, ratio=3.0, limit=16.0)]
    two = samples.localization(outputs=outputs, **fine)
    assert judge(samples.record(result=two)).sentence.endswith(
        "the error of both outputs is what float16 rounding predicts (3.00×, limit 16×)."
    )


def useless(samples: Samples) -> Json:
    short = {"kind": "spread", "value": 0.183, "limit": 0.1, "words": "its error is 18.3 % of its spread, limit 10 %"}
    return samples.output("y", verdict="precision", ratio=1.0, limit=16.0, shortfalls=[short])


def test_a_failure_by_precision_names_the_op_that_loses_the_digits(samples: Samples) -> None:
    mul = samples.culprit(
        0, op="MUL", cause="rounding", signature="large angles: values up to 3.99e+03 in steps of 2 rad",
        local_error=None, expected_error=None, ratio=None,
    )  # fmt: skip
    noise = "Input 'x' [1, 64, 64, 3] looks like an image and was fed with noise."
    result = samples.localization(culprits=[mul], outputs=[useless(samples)], notes=[noise])
    assert judge(samples.record(result=result)) == Verdict(
        "bad",
        "Fails by precision",
        f"This model fails by precision {ON}: the error is what float16 rounding predicts (1.00×, limit 16×), but y is "
        "of no use (its error is 18.3 % of its spread, limit 10 %). The digits are lost at MUL #0 (large angles: "
        "values up to 3.99e+03 in steps of 2 rad).",
        (
            "Certified on the host: with only what this op stores rounded, the exact model is of no use either; with "
            "that exact and all else rounded, it is. The device does, twice, what rounding predicts.",
            noise,
        ),
    )


def test_a_comparison_that_fails_by_precision_is_not_called_wrong(samples: Samples) -> None:
    result = {"schema": 1, "status": "fail", "outputs": [useless(samples)]}
    verdict = judge(samples.record("compare", result=result))
    assert (verdict.tone, verdict.mark) == ("bad", "Fails by precision")
    assert verdict.support == ("`harness localize` names the op at fault.",)
    both = {"schema": 1, "status": "fail", "outputs": [useless(samples), samples.output(verdict="wrong")]}
    assert judge(samples.record("compare", result=both)).mark == "Fail"


def test_a_pass_of_nothing_is_no_pass(samples: Samples) -> None:
    nothing = samples.localization(status="pass", outputs=[], culprits=[], explained=[])
    assert judge(samples.record(result=nothing)).mark == "Done"


def test_a_comparison_that_fails(samples: Samples) -> None:
    outputs = [samples.output("scores", cosine=0.9), samples.output(), samples.output("fine", ok=True)]
    verdict = judge(samples.record("compare", result={"status": "fail", "outputs": outputs}))
    assert verdict.sentence == (
        f"This model is wrong {ON}: 2 of 3 outputs are beyond what float16 explains; pred_masks shows cosine 0.9981, "
        "39.9× the error of an ideal device."
    )
    assert verdict.support == ("`harness localize` names the op at fault.",)


def test_elements_that_are_not_finite_come_first(samples: Samples) -> None:
    outputs = [samples.output("y", nonfinite=8609, ratio="inf", cosine="nan")]
    sentence = judge(samples.record("compare", result={"status": "fail", "outputs": outputs})).sentence
    assert sentence.endswith("y shows 8,609 elements NaN or infinite, cosine NaN.")


@pytest.mark.parametrize(
    ("options", "device", "where"),
    [
        ({"precision": "fp32"}, {}, "in fp32 on llvmpipe"),
        ({"precision": "fp16-fp32acc"}, {}, "in fp16 with fp32 sums on llvmpipe"),
        ({"accelerator": "cpu"}, {}, "in fp32 on the CPU of host"),
        ({}, {"name": "pixel8a", "kind": "android", "gpu": "Mali-G715"}, "in fp16 on Mali-G715 (pixel8a)"),
        ({}, {"name": "pixel8a", "kind": "android", "gpu": ""}, "in fp16 on the GPU of pixel8a"),
    ],
)
def test_the_sentence_says_how_and_where_it_ran(
    options: dict[str, Any], device: dict[str, Any], where: str, samples: Samples
) -> None:
    record = samples.record("compare", result={"status": "fail", "outputs": [samples.output()]})
    record["options"] |= options
    record["device"] |= device
    sentence = judge(record).sentence
    assert sentence.startswith(f"This model is wrong {where}")
    assert ("float32 explains" in sentence) == ("fp32 on" in where)


def test_an_error_keeps_its_own_words(samples: Samples) -> None:
    record = samples.record(status="failed", error="The GPU refuses op 3 (UNIQUE). Try `harness audit`.", result=None)
    assert judge(record).sentence == "The run failed. The GPU refuses op 3 (UNIQUE). Try `harness audit`."


def test_an_interruption_says_what_was_known_by_then(samples: Samples) -> None:
    record = samples.record(status="interrupted", result=None, outputs=[samples.output()])
    assert judge(record).sentence == (
        f"The run {ON} was interrupted; this page shows what was written until then. Up to then: 1 of 1 outputs is "
        "beyond what float16 explains; pred_masks shows cosine 0.9981, 39.9× the error of an ideal device."
    )


@pytest.mark.parametrize(
    ("injected", "same"),
    [
        ({}, True),
        ({"cosine": 0.9985}, True),
        ({"cosine": 0.9999}, False),
        ({"max_abs": 1.0}, False),
        ({"nonfinite": 5}, False),
        ({"output": "another"}, False),
        ({"cosine": None}, False),
        ({"cosine": "nan"}, False),
        ({"relative_rms": 0.0721}, True),
        ({"relative_rms": 0.0}, False),
    ],
)
def test_errors_within_a_quarter_of_the_devices_reproduce_the_failure(
    injected: dict[str, Any], same: bool, samples: Samples
) -> None:
    result = samples.localization(explained=[samples.impact(**injected)])
    assert reproduces(parse_run(samples.record(result=result))) is same


def test_nothing_is_reproduced_where_no_output_is_wrong(samples: Samples) -> None:
    result = samples.localization(outputs=[samples.output(ok=True)])
    assert not reproduces(parse_run(samples.record(result=result)))


def test_culprits_are_grouped_by_op_cause_and_signature_in_graph_order(samples: Samples) -> None:
    result = samples.localization(culprits=[samples.culprit(7), samples.culprit(5, cause="kernel"), samples.culprit(2)])
    groups = group(parse_run(samples.record(result=result)).culprits)
    assert [[c.last for c in alike] for alike in groups] == [[2, 7], [5]]
